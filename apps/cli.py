"""The `tracehub` command: parses, then hands over. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from apps.admin.client import Client
    from tracehub.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
EXIT_FAILED, EXIT_USAGE = 1, 2
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

app = typer.Typer(
    name="tracehub",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="One place for what your applications say about themselves; nothing acknowledged is ever lost.\n\n"
    "Begin with **tracehub up**: it runs everything in this terminal, with nothing to install.",
)
replay_app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
letters_app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
RUN, OPERATE = "Run", "Look and repair"

Url = Annotated[
    str, typer.Option("--url", help="Where TraceHub runs; otherwise what `up` wrote into the data folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def main() -> None:
    """Entry of the command."""
    app()


@app.command(rich_help_panel=RUN)
def up(
    *,
    port: Annotated[int | None, typer.Option(help="All HTTP and the dashboard. [default: 3001]")] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen. [default: 127.0.0.1]")] = None,
    workers: Annotated[int | None, typer.Option(min=0, max=64, help="Worker processes. [default: 2]")] = None,
    sim: Annotated[
        int | None, typer.Option(min=0, max=100, help="Simulators; 0 = none. [default: 3]")
    ] = None,
    sim_rate: Annotated[float | None, typer.Option(help="Entries per second of each. [default: 20]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where all data is. [default: .tracehub]")] = None,
    database_url: Annotated[str | None, typer.Option(help="A Postgres to use instead of our own.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="A Redis for the queue instead of our own.")] = None,
    buffer_redis_url: Annotated[str | None, typer.Option(help="A Redis for producers' buffers.")] = None,
) -> None:
    """Run everything in this terminal: databases, backend, workers, simulators.

    Ctrl-C stops all of it in order, and the next start goes on where it was.

    Example: `tracehub up --port 3002 --workers 4 --sim 0`
    """
    from apps.up.command import run_up
    from apps.up.options import options_from

    flags = {
        "port": port,
        "host": host,
        "workers": workers,
        "sim": sim,
        "sim_rate": sim_rate,
        "data_dir": data_dir,
        "database_url": database_url,
        "redis_url": redis_url,
        "buffer_redis_url": buffer_redis_url,
    }
    raise typer.Exit(run_up(options_from(_settings(), flags)))


@app.command(rich_help_panel=RUN)
def backend(
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: 3001]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
) -> None:
    """Run one backend: it takes batches in and answers when they are committed.

    Example: `TRACEHUB_DATABASE_URL=postgresql://… TRACEHUB_REDIS_URL=redis://… tracehub backend --port 3001`
    """
    _become("apps.backend", [], {"TRACEHUB_PORT": port, "TRACEHUB_HOST": host})


@app.command(rich_help_panel=RUN)
def worker(
    name: Annotated[str | None, typer.Option("--id", help="Its name. [default: host and process id]")] = None,
) -> None:
    """Run one worker: it takes batches from the queue and commits them. Run as many as you like.

    Example: `tracehub worker --id worker-7`
    """
    _become("apps.worker", [], {"TRACEHUB_WORKER_ID": name})


@app.command("producer-sim", context_settings=PASS_ON, rich_help_panel=RUN)
def producer_sim(context: typer.Context) -> None:
    """Run one simulator: believable logs of one service, at a rate, from a seed.

    Example: `tracehub producer-sim --service auth-svc --rate 50 --seed 7`
    """
    _become("apps.producer_sim", context.args, {})


@app.command(context_settings=PASS_ON, rich_help_panel=RUN)
def ship(context: typer.Context) -> None:
    """Ship log files: every line exactly once, also after a restart.

    Example: `tracehub ship /var/log/syslog --service web-1 --follow`
    """
    from apps.ship.command import ship as ship_files

    inner = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    inner.command()(ship_files)
    inner(context.args, prog_name="tracehub ship")


@app.command(rich_help_panel=OPERATE)
def migrate() -> None:
    """Bring the database to this version; one that is not empty and not ours is left alone.

    Example: `TRACEHUB_DATABASE_URL=postgresql://me@db/tracehub tracehub migrate`
    """
    from apps.admin.migrate_command import migrate_database

    raise typer.Exit(migrate_database(_settings().database()))


@app.command(rich_help_panel=OPERATE)
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild the ledger from the rows.")] = False,
    as_json: Json = False,
) -> None:
    """Prove that ledger, rows and buffers balance; exit 1 on any difference.

    Example: `tracehub verify`
    """
    from apps.admin.verify_command import run_verify

    raise typer.Exit(run_verify(_settings(), repair=repair, as_json=as_json))


@app.command(rich_help_panel=OPERATE)
def services(url: Url = "", as_json: Json = False) -> None:
    """List the services: what is acknowledged, what is missing, how far behind.

    Example: `tracehub services --json`
    """
    from apps.admin.commands import services as show_services

    _asking(url, lambda client: show_services(client, as_json=as_json))


@replay_app.callback()
def replay(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="pending, running, completed or lost.")] = None,
    service: Annotated[str | None, typer.Option(help="Only of this service.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """List replay requests, ask for a range again, or give one up.

    Example: `tracehub replay --status pending`, `tracehub replay request auth-svc 1088 1098`
    """
    from apps.admin.commands import replays

    if context.invoked_subcommand is None:
        _asking(
            url,
            lambda client: replays(client, status=status, service=service, limit=limit, as_json=as_json),
        )


@replay_app.command("request")
def replay_request(
    service: Annotated[str, typer.Argument(help="The service.")],
    first: Annotated[int, typer.Argument(min=1, help="First number.")],
    last: Annotated[int, typer.Argument(min=1, help="Last number, inclusive.")],
    *,
    epoch: Annotated[int | None, typer.Option(help="Epoch. [default: the newest]")] = None,
    url: Url = "",
) -> None:
    """Take a range out of the producer's buffer again; prints the id of the request.

    Example: `tracehub replay request auth-svc 1088 1098`
    """
    from apps.admin.commands import request_replay

    _asking(url, lambda client: print(request_replay(client, service, first, last, epoch=epoch)))


@replay_app.command("abandon")
def replay_abandon(request_id: Annotated[str, typer.Argument(metavar="ID")], url: Url = "") -> None:
    """Give a request up: what is still missing is signed off as lost, by you, for good.

    Example: `tracehub replay abandon 0193…`
    """
    from apps.admin.commands import abandon_replay

    _asking(url, lambda client: abandon_replay(client, request_id))


@letters_app.callback()
def dead_letters(
    context: typer.Context,
    *,
    service: Annotated[str | None, typer.Option(help="Only of this service.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only with this reason, e.g. conflict.")] = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """List entries that could not be stored as they are; try one again, or throw it away.

    Example: `tracehub dead-letters --reason conflict`, `tracehub dead-letters retry 17`
    """
    from apps.admin.commands import dead_letters as show_letters

    if context.invoked_subcommand is None:
        _asking(url, lambda client: show_letters(client, service=service, reason=reason, as_json=as_json))


@letters_app.command("retry")
def letters_retry(letter_id: Annotated[str, typer.Argument(metavar="ID")], url: Url = "") -> None:
    """Try once more to store it. Example: `tracehub dead-letters retry 17`"""
    from apps.admin.commands import retry_dead_letter

    _asking(url, lambda client: retry_dead_letter(client, letter_id))


@letters_app.command("delete")
def letters_delete(letter_id: Annotated[str, typer.Argument(metavar="ID")], url: Url = "") -> None:
    """Throw it away; its number stays signed off. Example: `tracehub dead-letters delete 17`"""
    from apps.admin.commands import delete_dead_letter

    _asking(url, lambda client: delete_dead_letter(client, letter_id))


@keys_app.callback()
def keys() -> None:
    """Keys: who may write, read or do everything. Works on the database, so it needs no key itself.

    Example: `tracehub keys create --name shop --scope write`
    """


@keys_app.command("list")
def keys_list(as_json: Json = False) -> None:
    """List the keys that are not revoked. Example: `tracehub keys list --json`"""
    from apps.admin.keys_command import list_keys

    raise typer.Exit(list_keys(_settings(), as_json=as_json))


@keys_app.command("create")
def keys_create(
    *,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[list[str], typer.Option(help="write, read or admin; may be repeated.")],
    tenant: Annotated[str | None, typer.Option(help="Only this tenant: a UUID or a name.")] = None,
    app_key: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    door: Annotated[list[str] | None, typer.Option(help="Only this door; may be repeated.")] = None,
    rate: Annotated[float | None, typer.Option(help="Entries per second that it may write.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339 time at which it ends.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once.

    Example: `tracehub keys create --name shop --scope write --tenant team-a --rate 500`
    """
    from apps.admin.keys_command import create_key

    body = {"name": name, "scopes": scope, "tenant_id": tenant, "app_key": app_key, "doors": door or None}
    more = {"rate": rate, "expires_at": expires_at}
    raise typer.Exit(create_key(_settings(), {**body, **more}, as_json=as_json))


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """End a key: within 5 s it opens nothing any more. Example: `tracehub keys revoke 0193…`"""
    from apps.admin.keys_command import revoke_key

    raise typer.Exit(revoke_key(_settings(), key_id))


app.add_typer(keys_app, name="keys", rich_help_panel=OPERATE)
app.add_typer(replay_app, name="replay", rich_help_panel=OPERATE)
app.add_typer(letters_app, name="dead-letters", rich_help_panel=OPERATE)


@app.command(rich_help_panel=OPERATE)
def config(as_json: Json = False) -> None:
    """List every setting: its variable, its value, its default and what it means.

    Example: `TRACEHUB_PORT=8080 tracehub config`
    """
    from apps.admin.config_command import config as show_config

    show_config(_settings(), as_json=as_json)


@app.command(context_settings=PASS_ON, rich_help_panel=OPERATE)
def bench(context: typer.Context) -> None:
    """Measure this machine: rates as ratios against ceilings of the same run.

    Example: `tracehub bench --help`
    """
    if not (ROOT / "benchmarks" / "__main__.py").is_file():
        _fail("the benchmarks are part of the repository, not of the installed package", EXIT_USAGE)
    _become("benchmarks", context.args, {})


def _settings() -> Settings:
    from tracehub.runtime.settings import read_settings

    return read_settings()


def _become(module: str, arguments: list[str], variables: Mapping[str, Any]) -> NoReturn:
    """Be that program from here on: the same process, without what the command line needed."""
    environment = dict(os.environ)
    environment |= {name: str(value) for name, value in variables.items() if value is not None}
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own module, no shell


def _asking(url: str, ask: Callable[[Client], None]) -> None:
    from apps.admin.client import ApiError, Client, address

    try:
        settings = _settings()
        ask(Client(address(url, settings), settings.key_for("admin") or settings.key_for("read")))
    except ApiError as error:
        _fail(str(error), EXIT_FAILED)


def _fail(sentence: str, status: int) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    main()
