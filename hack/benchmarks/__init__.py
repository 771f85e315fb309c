"""What `hack/bench` runs."""
