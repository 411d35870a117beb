"""Number, buffer and deliver logs to TraceHub: what is acknowledged is stored, what is lost is said.

`Producer` for threads, `AsyncProducer` for asyncio, `TraceHubHandler` for the standard library's logging; `LogClient`
for programs without a Redis.
The protocol itself is in `window` and `buffer`, both usable on their own; `memory` simulates a buffer.
"""

from tracehub_sdk.aproducer import AsyncProducer
from tracehub_sdk.handler import TraceHubHandler
from tracehub_sdk.logclient import LogClient
from tracehub_sdk.producer import Producer

__all__ = ["AsyncProducer", "LogClient", "Producer", "TraceHubHandler"]
