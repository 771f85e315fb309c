"""The CRI: what a kubelet says to its runtime, over gRPC. `client` is the I/O, `cri.proto` the messages."""
