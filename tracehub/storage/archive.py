"""Archives of expired entries, through fsspec: files below one folder, and URLs of the schemes that are allowed.

Guarantee: `write` returns only when the lines were read back and are the same, so what it was given may be deleted.
A file stands under its name whole or not at all. Raises ArchiveFailed, and InvalidField for a path that is not
allowed (any more: a link may have moved).
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import fsspec

from tracehub.protocol.errors import InvalidField, TraceHubError
from tracehub.protocol.retention import check_url, scheme_of

LEVEL = 6
READ_BYTES = 1024 * 1024


class ArchiveFailed(TraceHubError):
    """The archive could not be written, or is not what was written"""


class Archives:
    """Where archives may be. `folder` holds all plain paths; relative ones start there."""

    def __init__(self, folder: Path, schemes: Collection[str], prefixes: Collection[str] = ()) -> None:
        self._folder = folder
        self._schemes = frozenset(schemes)
        self._prefixes = tuple(prefixes)

    def check(self, path: str, *, is_bound: bool) -> None:
        """Whether entries may be archived there; `is_bound`: for a key that does not reach everything. Raises
        InvalidField."""
        if scheme_of(path) is not None:
            check_url(path, self._schemes, self._prefixes if is_bound else None)
        else:
            self._within(path)

    def _within(self, path: str) -> Path:
        """Where a plain path leads, links and dots resolved."""
        if "://" in path or "::" in path:
            raise InvalidField("must be a path or a URL", field="archive_path")
        folder = Path(os.path.realpath(self._folder))
        try:
            found = Path(os.path.realpath(folder / path))
        except (OSError, ValueError):
            raise InvalidField("is no path", field="archive_path") from None
        if not found.is_relative_to(folder):
            raise InvalidField("is outside of the folder of archives", field="archive_path")
        return found

    async def write(self, path: str, name: str, lines: Sequence[bytes]) -> None:
        """Lines as `<path>/<name>`, compressed; then read back, counted and compared."""
        await asyncio.to_thread(self._write, path, name, lines)

    def _write(self, path: str, name: str, lines: Sequence[bytes]) -> None:
        try:
            if scheme_of(path) is not None:
                self.check(path, is_bound=False)
                files, place = fsspec.core.url_to_fs(f"{path.rstrip('/')}/{name}")
                _put(files, place, lines)
                read = _read_back(files, place)
            else:
                files, place = fsspec.filesystem("file"), str(self._within(f"{path}/{name}"))
                files.makedirs(os.path.dirname(place), exist_ok=True)
                _put(files, f"{place}.part", lines)
                read = _read_back(files, f"{place}.part")
                files.mv(f"{place}.part", place)
                _keep(Path(place).parent)
        except InvalidField:
            raise
        except Exception as error:  # each kind of store has errors of its own
            raise ArchiveFailed from error
        if read != (len(lines), _digest(lines)):
            raise ArchiveFailed


def _put(files: Any, place: str, lines: Sequence[bytes]) -> None:
    with files.open(place, "wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=LEVEL, mtime=0) as packed:
            for line in lines:
                packed.write(line + b"\n")
        raw.flush()
        if hasattr(raw, "fileno") and files.protocol and "file" in files.protocol:
            os.fsync(raw.fileno())


def _read_back(files: Any, place: str) -> tuple[int, bytes]:
    files.invalidate_cache()
    count, digest = 0, hashlib.sha256()
    with files.open(place, "rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as packed:
        try:
            while piece := packed.read(READ_BYTES):
                count += piece.count(b"\n")
                digest.update(piece)
        except (EOFError, zlib.error) as error:
            raise ArchiveFailed from error
    return count, digest.digest()


def _digest(lines: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line + b"\n")
    return digest.digest()


def _keep(folder: Path) -> None:
    """A name outlives a power cut once its folder is written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
