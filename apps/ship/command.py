"""`tracehub ship`: log files, line by line, through the producer library."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from apps.ship.channel import Channel, ShipError, StopError
from apps.ship.progress import Progress, summary
from apps.ship.shipper import Shipper

EXIT_OK, EXIT_INCOMPLETE, EXIT_USAGE = 0, 1, 2


def addresses(data_dir: Path, endpoint: str, redis_url: str) -> tuple[str, str]:
    """(endpoint, redis_url): as given, else of the `tracehub up` that runs in `data_dir`."""
    if endpoint and redis_url:
        return endpoint, redis_url
    if endpoint or redis_url:
        raise typer.BadParameter("--endpoint and --redis-url belong together")
    try:
        running = json.loads((data_dir / "run.json").read_text())
        return str(running["http"]), str(running.get("buffer_redis_url") or running["redis_url"])
    except FileNotFoundError:
        raise typer.BadParameter(
            f"no `tracehub up` runs in {data_dir}: start it, or name another --data-dir, "
            "or give --endpoint and --redis-url"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(f"{data_dir / 'run.json'} cannot be read: {error}") from None


def ship(  # noqa: PLR0917 - the options of a command line
    files: Annotated[
        list[Path], typer.Argument(help="log files, shipped one after another", metavar="FILE…")
    ],
    service: Annotated[str, typer.Option(help="the service whose logs these are")],
    follow: Annotated[bool, typer.Option(help="go on as the files grow and rotate, until Ctrl-C")] = False,
    data_dir: Annotated[Path, typer.Option(help="data directory of a running `tracehub up`")] = Path(
        ".tracehub"
    ),
    endpoint: Annotated[str, typer.Option(help="the server, http://host:port")] = "",
    redis_url: Annotated[str, typer.Option(help="the Redis that buffers, redis://host:port/0")] = "",
    token: Annotated[str, typer.Option(envvar="TRACEHUB_WRITE_KEY", help="key with the scope write")] = "",
    patience: Annotated[float, typer.Option(min=0, help="give up after seconds without progress")] = 60.0,
) -> None:
    """Ship log FILEs: every line once, its sequence number the line number.

    Run it again at any time: it goes on where it stopped. Each file has a numbering (epoch) of its own
    within the service, known by its first line and its inode, so rotated and truncated files are told apart.
    Time and level are recognised, the line is kept whole. Exit status: 0 all acknowledged, 1 not, 2 usage.
    """
    for file in files:
        if not follow and not file.is_file():
            raise typer.BadParameter(f"{file} is not a file")
    target = addresses(data_dir, endpoint, redis_url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        channel = Channel.connect(
            service, target, token=token, patience_s=0.0 if follow else patience, stopping=stop.is_set
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(_run(channel, [Path(os.path.abspath(file)) for file in files], follow, stop))


def _run(channel: Channel, files: list[Path], follow: bool, stop: threading.Event) -> int:
    progress = Progress(sys.stderr, follow=follow)
    shipper = Shipper(
        channel, files, follow=follow, stopping=stop.is_set, report=lambda: progress.show(shipper)
    )
    error = ""
    try:
        with progress:
            channel.start()
            shipper.run()
    except StopError:
        error = "" if follow else "stopped"
    except (ShipError, OSError) as problem:
        error = str(problem)
    stop.clear()
    left = channel.settle(10.0)
    channel.stop()
    typer.echo(summary(shipper.reports, channel.counts, left))
    if error:
        typer.echo(error, err=True)
    refused = channel.counts.conflicts or channel.counts.rejected
    return EXIT_INCOMPLETE if error or left or refused else EXIT_OK
