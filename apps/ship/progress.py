"""What a person sees while files are shipped, and the summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tracehub_sdk.window import Counts

if TYPE_CHECKING:
    from apps.ship.shipper import FileReport, Shipper


class Progress:
    """Bars on a terminal, nothing elsewhere."""

    def __init__(self, stream: TextIO, *, follow: bool) -> None:
        console = Console(file=stream)
        columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn()]
        if not follow:
            columns.append(TimeRemainingColumn())
        self._bars = Bars(*columns, console=console, disable=not stream.isatty(), transient=True)
        self._tasks: list[int] = []

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, shipper: Shipper) -> None:
        """Bring the bars to where the files stand."""
        while len(self._tasks) < len(shipper.reports):
            name = shipper.reports[len(self._tasks)].path.rsplit("/", 1)[-1]
            self._tasks.append(self._bars.add_task(name, total=None))
        for task, report in zip(self._tasks, shipper.reports, strict=True):
            total = max(report.bytes_total, report.bytes_read)
            self._bars.update(task, completed=report.bytes_read, total=total)  # type: ignore[arg-type]


def summary(reports: Sequence[FileReport], counts: Counts, left: int) -> str:
    """One line per file, then what the server said of all of them."""
    rows = []
    for report in reports:
        where = f", from line {report.resumed_at + 1:,} on" if report.resumed_at else ""
        epochs = ", ".join(map(str, report.epochs)) or "none"
        rows.append(f"{report.path}: {report.read:,} lines read{where} (epoch {epochs})")
    if left:
        rows.append(f"{left:,} lines not acknowledged yet, kept in the buffer")
    else:
        rows.append("all that was read is acknowledged")
    if counts.conflicts:
        rows.append(
            f"{counts.conflicts:,} lines in conflict: the server holds other text under their numbers; "
            "they are among its dead letters"
        )
    if counts.rejected:
        rows.append(
            f"{counts.rejected:,} lines refused by the server; they are kept in the list `…:rejected`"
        )
    return "\n".join(rows)
