"""Every Redis key and channel of the server, in one place.

The producers' own keys are public (contract: ingest.md §3, §6) and stand in the SDK as well; a test keeps
the two spellings equal. Hash tags keep one producer's keys in one cluster slot.
"""

from __future__ import annotations

QUEUE_LOGS = "queue:logs"
QUEUE_RETRY = "queue:retry"
QUEUES = (QUEUE_LOGS, QUEUE_RETRY)

INFLIGHT_PREFIX = "inflight:"
INFLIGHT_INDEX = "inflight-index"  # hash: job id -> "<entries>:<bytes>"
INFLIGHT_TOTALS = "inflight-totals"  # hash: entries, bytes; changed only together with the index

JOB_PREFIX = "arq:job:"
IN_PROGRESS_PREFIX = "arq:in-progress:"

WORKERS = "workers"  # hash: worker id -> last known heartbeat, kept after death so that it can be missed
HEARTBEAT_PREFIX = "worker-alive:"  # string with a time to live: gone = dead or stopped

LIVE_CHANNEL = "live"  # what happened, for viewers: one message per commit or event
COMMITS = "commits"  # stream: what was stored in the last minutes, by reference, for those who follow
SOCKETS = (
    "sockets"  # hash: backend id -> when it said so, and how many raw WebSocket clients it has by tenant
)
WORKER_CONTROL_CHANNEL = "worker-control"
FAULT_PREFIX = "fault:"  # string with a time to live: the fault is on
FLUSHED_CHANNEL = "flushed"  # ids of jobs that flush_queue took away, a line each
CRON_PREFIX = "cron:"
EXPOSED = "exposed"  # string with a time to live: a backend is reached from beyond its own machine

ZERO_TENANT = "00000000-0000-0000-0000-000000000000"


def inflight(job_id: str) -> str:
    """The mark of a job that is queued or running: which numbers it holds."""
    return INFLIGHT_PREFIX + job_id


def job_body(job_id: str) -> str:
    """The job itself, as arq stores it."""
    return JOB_PREFIX + job_id


def in_progress(job_id: str) -> str:
    """arq's lease on a running job."""
    return IN_PROGRESS_PREFIX + job_id


def wake(queue: str) -> str:
    """Channel that tells all workers of a queue to look now."""
    return f"wake:{queue}"


def wake_one(queue: str, name: str) -> str:
    """Channel that tells one of them; the scripts make the same of `wake` and a name of `idle`."""
    return f"{wake(queue)}:{name}"


def idle(queue: str) -> str:
    """Sorted set of workers of a queue that wait for work, by the time since when."""
    return f"idle:{queue}"


def receipts(backend_id: str) -> str:
    """Channel on which one backend process hears what its jobs became."""
    return f"receipts:{backend_id}"


def heartbeat(worker_id: str) -> str:
    """Present while the worker process beats; value = its incarnation."""
    return HEARTBEAT_PREFIX + worker_id


def health(worker_id: str, queue: str) -> str:
    """arq's own sign of life, one per worker and queue; nobody here reads it."""
    return f"arq:health:{worker_id}:{queue}"


def once(scope: bytes) -> str:
    """Present while the first request with an Idempotency-Key runs."""
    return f"once:{scope.hex()}"


def generation(tenant_id: str) -> str:
    """Hash: how many commits and deletions a tenant had; what remembered answers are compared with."""
    return f"generation:{tenant_id}"


def answer(digest: str) -> str:
    """Hash: a remembered answer, and what its tenant's generation was."""
    return f"answer:{digest}"


def fault(action: str) -> str:
    """Present while the fault is on; value = JSON of ingest.md §7 `sim:control`."""
    return FAULT_PREFIX + action


def producer_buffer(tenant_id: str, service: str) -> str:
    """A producer's sorted set: score = seq, member = the entry's JSON."""
    name = service if tenant_id == ZERO_TENANT else f"{tenant_id}@{service}"
    return f"producer:{{{name}}}"


def producer_meta(tenant_id: str, service: str) -> str:
    """A producer's hash of `epoch`, `next` and `start`."""
    return producer_buffer(tenant_id, service) + ":meta"


def replay_job(tenant_id: str, numbering: str, epoch: int) -> str:
    """The id of the one replay job that a stream may have."""
    return f"replay:{tenant_id}:{numbering}:{epoch}"


def tries(job_id: str) -> str:
    """How often a job failed for a reason that nobody knows."""
    return f"tries:{job_id}"


def told(worker_id: str, what: str, moment: int) -> str:
    """Present while one backend has told this event, so that the others need not."""
    return f"told:{what}:{worker_id}:{moment}"
