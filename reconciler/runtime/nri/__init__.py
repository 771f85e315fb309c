"""The NRI plugin: multiplexer and ttrpc without I/O, and the plugin on asyncio.

`framing`, `mux` and `ttrpc` know bytes only; `envelope` and `channel` add protobuf; `levels`, `session` and
`dispatch` hold the protocol's state and rules; `connection`, `pending` and `plugin` are the I/O.
"""
