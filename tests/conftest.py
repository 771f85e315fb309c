"""Settings of the test runner."""

from __future__ import annotations

import asyncio

# Up to Python 3.13, pytest-asyncio asks for the current event loop before the first test, and so makes one
# that nobody closes; where it is known that there is none, none is made.
asyncio.set_event_loop(None)
