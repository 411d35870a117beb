"""The settings of the embedded Postgres: a steady stream of COPY on a small machine, and nothing unsafe.

Every commit is on the disk before it is acknowledged (`fsync`, `synchronous_commit`); all the rest is about
doing that seldom and evenly.
"""

from __future__ import annotations

DURABLE: dict[str, str] = {
    # who may speak to it
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",  # a socket path may be 107 bytes long; a project folder may be longer
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    # safety
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # memory and WAL: large and even, for COPY
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "wal_compression": "off",  # this build has no lz4, and pglz costs more than the disk it saves
    "min_wal_size": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_level": "minimal",  # nobody replicates from an embedded server
    "max_wal_senders": "0",
    # a small machine
    "io_method": "worker",
    "io_workers": "2",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    "jit": "off",
    "random_page_cost": "1.1",
    "autovacuum_max_workers": "2",
    "autovacuum_naptime": "30s",
    # clocks and words
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "datestyle": "'iso, ymd'",
    "lc_messages": "'C'",
    # its log: what an operator must see, no statements (they hold user data)
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_line_prefix": "'%m [%p] %a '",
}

EPHEMERAL: dict[str, str] = {
    **DURABLE,
    "fsync": "off",  # a killed process loses nothing without it; only a power cut would, and tests have none
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "min_wal_size": "80MB",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "autovacuum_max_workers": "1",
}

HEADER = """\
# Written by TraceHub at every start. Put your own settings into local.conf beside it.
"""


def postgresql_conf(settings: dict[str, str], port: int) -> str:
    """The whole file."""
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join([HEADER, *lines, f"port = {port}", "include_if_exists = 'local.conf'", ""])


def pg_hba_conf() -> str:
    """Loopback only, and only with the password."""
    return "host all all 127.0.0.1/32 scram-sha-256\n"
