"""Every setting, its default and its environment variable (`TRACEHUB_<NAME>`).

`tracehub config` prints this table. Database and Redis addresses also obey the usual names (store_addresses.py)
for the single processes; `tracehub up` does not (apps/up/options.py), so a stray variable can never make it migrate
somebody else's database.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracehub.protocol.retention import DAYS_MAX
from tracehub.protocol.schedule import read_schedule
from tracehub.runtime import store_addresses

MIB = 1024 * 1024
# Each one that is set counts (log-service.md §1.4): scope, the setting, and the other names of it.
KEYS = (
    ("write", "write_key", ("API_SECRET", "OBS_API_KEY")),
    ("read", "read_key", ("UI_SECRET",)),
    ("admin", "admin_key", ()),
)
# Further names that a setting is read from.
ALIASES = {
    name: (name.upper(),)
    for name in (
        "server_port",
        "http_port",
        "ws_port",
        "obs_port",
        "db_max_open_conns",
        "otel_exporter_otlp_endpoint",
        "otel_service_name",
        "log_retention_days",
        "log_max_size_gb",
        "log_cleanup_enabled",
        "log_cleanup_cron",
        "smtp_host",
        "smtp_port",
        "smtp_user",
        "smtp_password",
        "smtp_from",
        "smtp_tls",
    )
}
DB_CONNECTIONS_MIN = 8  # with fewer, what waits for a lock in a worker would hold up what frees the lock
PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"


def _also(name: str) -> AliasChoices:
    """A setting that has its name without our prefix, too."""
    return AliasChoices(f"TRACEHUB_{name.upper()}", name)


def _listener(name: str, what: str) -> int:
    """The setting of a further port; 0 is off."""
    port: int = Field(
        default=0, ge=0, le=65535, validation_alias=_also(name),
        description=f"a further port to listen on, 0: none; {what}; also {name.upper()}",
    )  # fmt: skip
    return port


class Settings(BaseSettings):
    """All settings of all processes; immutable once made."""

    model_config = SettingsConfigDict(
        env_prefix="TRACEHUB_", frozen=True, extra="ignore", populate_by_name=True
    )

    host: str = Field(default="127.0.0.1", description="address the backend listens on")
    port: int = Field(default=3001, ge=0, le=65535, description="port of HTTP, Socket.IO and the dashboard")
    server_port: int = _listener("server_port", "everything as on TRACEHUB_PORT")
    http_port: int = _listener("http_port", "there / is the API documentation")
    ws_port: int = _listener("ws_port", "there a WebSocket is accepted on any path")
    obs_port: int = _listener("obs_port", "everything as on TRACEHUB_PORT")
    connections_max: int = Field(
        default=4_096, ge=1, description="connections a backend serves; more are told to come later"
    )
    data_dir: Path = Field(
        default=Path(".tracehub"), description="where `up` keeps databases, buffers and run.json"
    )
    database_url: str = Field(
        default="",
        description="Postgres; empty: DATABASE_URL, else POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB, else DB_HOST,"
        " _PORT, _USER, _PASSWORD, _NAME, _SSL_MODE, else localhost:5432",
    )
    db_max_open_conns: int = Field(
        default=50, ge=DB_CONNECTIONS_MIN, validation_alias=_also("db_max_open_conns"),
        description="connections to Postgres of one process at most; also DB_MAX_OPEN_CONNS",
    )  # fmt: skip
    redis_url: str = Field(
        default="",
        description="Redis of the queue; empty: REDIS_URL, else REDIS_HOST, _PORT, _PASSWORD, _DB (localhost:6379,"
        " 0)",
    )
    buffer_redis_url: str = Field(
        default="", description="Redis of the producers' buffers; empty: the queue's"
    )
    insecure: bool = Field(default=False, description="listen beyond loopback although everything is open")
    write_key: SecretStr = Field(
        default=SecretStr(""), description="a key with the scope write; also API_SECRET and OBS_API_KEY"
    )
    read_key: SecretStr = Field(
        default=SecretStr(""), description="a key with the scope read; also UI_SECRET"
    )
    admin_key: SecretStr = Field(default=SecretStr(""), description="a key that may do everything")
    faults: bool = Field(default=False, description="allow fault injection (POST /metrics/control)")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto (console on a terminal, else json), json or console"
    )
    otel_exporter_otlp_endpoint: str = Field(
        default="", validation_alias=_also("otel_exporter_otlp_endpoint"),
        description="where spans go by OTLP/HTTP, without /v1/traces; empty: nowhere; also"
        " OTEL_EXPORTER_OTLP_ENDPOINT",
    )  # fmt: skip
    otel_service_name: str = Field(
        default="tracehub", validation_alias=_also("otel_service_name"),
        description="our name in spans; also OTEL_SERVICE_NAME",
    )  # fmt: skip

    ack_timeout_s: float = Field(default=5.0, gt=0, description="longest wait of a request for its commit")
    receipt_wait_ms: int = Field(
        default=500, gt=0, description="a waiter without receipt asks the ledger after this"
    )
    body_timeout_s: float = Field(default=15.0, gt=0, description="a request body must arrive within this")
    queue_entries_max: int = Field(default=200_000, gt=0, description="entries that may wait before 429")
    queue_bytes_max: int = Field(
        default=256 * MIB, gt=0, description="bytes of jobs that may wait before 429"
    )
    gap_ranges_max: int = Field(default=2_000, gt=0, description="gaps of one stream before 429")
    gap_grace_ms: int = Field(
        default=500, ge=0, description="a replay starts this long after its gap was named"
    )
    epochs_max: int = Field(default=100, gt=0, description="epochs per service")
    services_max: int = Field(default=10_000, gt=0, description="services per tenant")
    live_entries_per_second_max: int = Field(
        default=500, gt=0, description="log:new per second; above: a sample"
    )
    partition: str = Field(
        default="month", pattern="^(month|day)$", description="width of a partition of `logs`"
    )

    log_retention_days: int = Field(
        default=30, ge=1, le=DAYS_MAX, validation_alias=_also("log_retention_days"),
        description="days entries are kept of tenants without a policy; also LOG_RETENTION_DAYS",
    )  # fmt: skip
    log_max_size_gb: float = Field(
        default=50.0, gt=0, validation_alias=_also("log_max_size_gb"),
        description="gigabytes that tenants without a policy use together; also LOG_MAX_SIZE_GB",
    )  # fmt: skip
    log_cleanup_enabled: bool = Field(
        default=True, validation_alias=_also("log_cleanup_enabled"),
        description="delete by schedule what is too old or too much; also LOG_CLEANUP_ENABLED",
    )  # fmt: skip
    log_cleanup_cron: str = Field(
        default="0 2 * * *", validation_alias=_also("log_cleanup_cron"),
        description="when: minute, hour, day, month, weekday, in UTC; also LOG_CLEANUP_CRON",
    )  # fmt: skip
    archive_dir: Path = Field(
        default=Path("./archive"), description="archives of expired entries that are plain files lie in here"
    )
    archive_schemes: str = Field(
        default="s3", description="schemes of URLs that may be archives, with commas between"
    )
    archive_prefixes: str = Field(
        default="", description="URLs below which keys of a tenant may archive, with commas between"
    )

    workers: int = Field(default=2, ge=0, description="worker processes that `up` starts")
    sim: int = Field(default=3, ge=0, description="simulators that `up` starts")
    sim_rate: float = Field(default=20.0, gt=0, description="entries per second of each simulator")
    worker_id: str = Field(default="", description="name of this worker; empty: host and process id")
    supervised: bool = Field(default=False, description="set by `up`: somebody restarts this worker")
    worker_restart_ms: int = Field(default=5_000, ge=0, description="a crashed worker comes back after this")
    group_rows_max: int = Field(default=5_000, gt=0, description="entries a worker commits together")
    job_lease_s: int = Field(default=5, ge=2, description="a dead worker's jobs are free after this")

    public_url: str = Field(
        default="http://localhost:3001",
        description="where people find this server; links in alerts begin with it",
    )
    slack_webhook: SecretStr = Field(
        default=SecretStr(""), description="where alerts with the channel slack go, unless it names its own"
    )
    alert_webhook: SecretStr = Field(
        default=SecretStr(""), description="where alerts with the channel webhook go, unless it names its own"
    )
    alert_webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="signs what goes to TRACEHUB_ALERT_WEBHOOK; empty: not signed"
    )
    pagerduty_key: SecretStr = Field(
        default=SecretStr(""), description="integration key of alerts with the channel pagerduty"
    )
    pagerduty_url: str = Field(default=PAGERDUTY_URL, description="the Events API v2 of PagerDuty")
    alert_email: str = Field(
        default="", description="recipients of alerts with the channel email, with commas between them"
    )
    alert_private_urls: Literal["allow", "deny", "auto"] = Field(
        default="auto",
        description="whether alerts may go to loopback and private addresses: allow, deny, or auto (while the"
        " server listens on loopback only)",
    )
    smtp_host: str = Field(
        default="", validation_alias=_also("smtp_host"), description="mail server of alerts; also SMTP_HOST"
    )
    smtp_port: int = Field(
        default=587,
        ge=1,
        le=65535,
        validation_alias=_also("smtp_port"),
        description="its port; also SMTP_PORT",
    )
    smtp_user: str = Field(
        default="", validation_alias=_also("smtp_user"), description="its login; also SMTP_USER"
    )
    smtp_password: SecretStr = Field(
        default=SecretStr(""), validation_alias=_also("smtp_password"), description="also SMTP_PASSWORD"
    )
    smtp_from: str = Field(
        default="tracehub@localhost",
        validation_alias=_also("smtp_from"),
        description="sender of alerts; also SMTP_FROM",
    )
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        validation_alias=_also("smtp_tls"),
        description="starttls, tls or none; also SMTP_TLS",
    )

    @field_validator("log_cleanup_cron")
    @classmethod
    def _readable(cls, text: str) -> str:
        read_schedule(text)
        return text

    def listeners(self) -> dict[str, int]:
        """The ports to listen on, by the settings that name them: TRACEHUB_PORT and those that are not off."""
        further = ("server_port", "http_port", "ws_port", "obs_port")
        named = {name.upper(): getattr(self, name) for name in further}
        return {"TRACEHUB_PORT": self.port} | {name: port for name, port in named.items() if port}

    def archives(self) -> tuple[Path, list[str], list[str]]:
        """Where archives may be: the folder of files, the schemes of URLs, the prefixes for bound keys."""
        schemes = [part.strip().lower() for part in self.archive_schemes.split(",") if part.strip()]
        prefixes = [part.strip() for part in self.archive_prefixes.split(",") if part.strip()]
        return self.archive_dir, schemes, prefixes

    def database(self, env: Mapping[str, str] = os.environ) -> str:
        """The Postgres address: ours, else the usual names, else localhost."""
        return self.database_url or store_addresses.postgres(env)

    def redis(self, env: Mapping[str, str] = os.environ) -> str:
        """The queue's Redis address: ours, else the usual names, else localhost."""
        return self.redis_url or store_addresses.redis(env)

    def buffer_redis(self, env: Mapping[str, str] = os.environ) -> str:
        """The Redis of the producers' buffers; by default the queue's."""
        return self.buffer_redis_url or self.redis(env)

    def given_keys(self, env: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
        """The keys of the environment, (scope, key) each; trimmed, as what a client shows is."""
        found = [
            (scope, text.strip())
            for scope, name, others in KEYS
            for text in (getattr(self, name).get_secret_value(), *(env.get(other, "") for other in others))
        ]
        return [(scope, text) for scope, text in found if text]

    def key_for(self, scope: str, env: Mapping[str, str] = os.environ) -> str:
        """The key with which our own programs ask for a scope: one that has just it, else the admin's, else none."""
        keys = self.given_keys(env)
        return next((key for wanted in (scope, "admin") for has, key in keys if has == wanted), "")


def read_settings() -> Settings:
    """The settings of the environment. SystemExit 2 when one is bad, after a line on stderr that names it; its value
    is not shown, it may be a secret."""
    try:
        return Settings()
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            is_whole = name in ALIASES or name.startswith("TRACEHUB_")
            sys.stderr.write(f"{name if is_whole else f'TRACEHUB_{name}'}".upper() + f": {item['msg']}\n")
        raise SystemExit(2) from None
