"""CPUs as sets of ids and as a topology. Pure."""
