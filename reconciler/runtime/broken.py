"""How a gRPC call ends where the connection does."""

from __future__ import annotations

import asyncio

from google.protobuf import message
from grpclib import exceptions

BROKEN = (
    OSError,
    exceptions.StreamTerminatedError,
    exceptions.ProtocolError,
    asyncio.IncompleteReadError,
    message.DecodeError,
)
"""What a connection that breaks in the middle, or a peer that speaks something else, ends a call with."""
