"""Places every container of a Kubernetes node on its CPUs, and keeps it there."""

__version__ = "0.1.0"
