"""The running agent: passes, the worker that writes, the hooks' answers, status, logs. I/O."""
