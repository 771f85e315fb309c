"""The host's files and processes: sysfs, the cgroup tree, inotify, affinity. I/O."""
