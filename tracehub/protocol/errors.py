"""The one tree of errors. A class is a code of the public contract; its docstring is the default message.

Messages are shown to users: they never hold database text, class names, paths or a user's own values.
"""

from __future__ import annotations


class TraceHubError(Exception):
    """Something went wrong inside TraceHub"""

    code = "internal"

    def __init__(
        self, message: str = "", *, field: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.field = field
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class InvalidJSON(TraceHubError):
    """The body is not valid JSON"""

    code = "invalid_json"


class InvalidField(TraceHubError):
    """A field has a bad value"""

    code = "invalid_field"


class TooLarge(TraceHubError):
    """The body or the batch is too large"""

    code = "too_large"


class UnsupportedEncoding(TraceHubError):
    """Content-Encoding must be gzip, zstd or identity"""

    code = "unsupported_encoding"


class UnsupportedType(TraceHubError):
    """Content-Type must be application/json"""

    code = "unsupported_type"


class SlowBody(TraceHubError):
    """The request body did not arrive in time"""

    code = "slow_body"


class Unauthorized(TraceHubError):
    """Missing or invalid API key"""

    code = "unauthorized"


class Forbidden(TraceHubError):
    """Not allowed"""

    code = "forbidden"


class NotFound(TraceHubError):
    """Nothing is here"""

    code = "not_found"


class UnknownService(NotFound):
    """No log of this service was ever received"""

    code = "unknown_service"


class Conflict(TraceHubError):
    """The request does not fit what is stored"""

    code = "conflict"


class InFlight(TraceHubError):
    """The first request with this Idempotency-Key is still running"""

    code = "in_flight"


class IdempotencyMismatch(TraceHubError):
    """The Idempotency-Key was used for another body"""

    code = "idempotency_mismatch"


class Overloaded(TraceHubError):
    """Too much is waiting; try again later"""

    code = "overloaded"


class TooManyGaps(TraceHubError):
    """The stream has too many gaps; resend what is missing first"""

    code = "too_many_gaps"


class Unavailable(TraceHubError):
    """A store is not reachable; try again later"""

    code = "unavailable"


class QueryTimeout(TraceHubError):
    """The query took too long; ask for less, or for a shorter time"""

    code = "query_timeout"


class InvalidId(TraceHubError):
    """Invalid log ID format"""

    code = "invalid_id"


class InvalidTraceId(InvalidId):
    """A trace id has at most 64 characters"""

    code = "invalid_trace_id"


class InvalidRequestId(InvalidId):
    """A request id has at most 64 characters"""

    code = "invalid_request_id"


class NetworkDropped(TraceHubError):
    """The fault drop_network is on: every /ingest is refused"""

    code = "network_dropped"


class StoreError(TraceHubError):
    """A store refused"""


class Transient(StoreError):
    """The store is down, full or restarting: costs no try"""

    code = "unavailable"


class BadData(StoreError):
    """The store will never take this data: the entry must be found and set aside"""


class LedgerDisagrees(BadData):
    """A row exists that the ledger does not know"""


REFUSALS: dict[str, type[TraceHubError]] = {
    cls.code: cls for cls in (Overloaded, TooManyGaps, Unavailable, InvalidField)
}
