"""kubelet's PodResources API: which exclusive CPUs kubelet believes each container has."""
