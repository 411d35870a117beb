"""Number, buffer and deliver logs to TraceHub: what is acknowledged is stored, what is lost is said."""

from tracehub_sdk.producer import Producer

__all__ = ["Producer"]
