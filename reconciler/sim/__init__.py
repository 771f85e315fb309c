"""A simulated node: directory tree, the runtime side of NRI, a script of pods and faults. I/O."""
