"""`python -m apps.producer_sim --service auth-svc --rate 20 --seed 1 [--seconds N]`"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Annotated

import typer

from apps.producer_sim.runner import Options, run
from tracehub.runtime.settings import Settings, read_settings

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - where to connect to


def endpoint(settings: Settings) -> str:
    """The backend's address, as seen from here."""
    host = ANY_ADDRESS.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def producer_sim(
    service: Annotated[str, typer.Option(help="auth-svc, payment-svc, notif-svc or any other name")],
    rate: Annotated[float, typer.Option(min=0.01, help="mean entries per second")] = 20.0,
    seed: Annotated[int, typer.Option(help="the same seed gives the same traffic")] = 1,
    seconds: Annotated[float, typer.Option(min=0.0, help="stop after this; 0: run until stopped")] = 0.0,
) -> None:
    """Produce believable traffic of one service. Ends well on SIGTERM: drains first."""
    settings = read_settings()
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(levelname)s %(message)s"
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    options = Options(
        service,
        endpoint(settings),
        settings.buffer_redis(),
        rate=rate,
        seed=seed,
        seconds=seconds,
        token=settings.key_for("write"),
    )
    try:
        drained = run(options, stop)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not drained:
        typer.echo(
            f"{service}: stopped before everything was acknowledged; the rest stays in its buffer", err=True
        )


if __name__ == "__main__":
    typer.run(producer_sim)
