"""Doors to the container runtime: NRI, CRI, and the conversion of their messages to events. I/O."""
