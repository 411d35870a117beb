"""Archives: read back before anybody may delete, inside of their folder, whole or not there."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tracehub.protocol.errors import InvalidField
from tracehub.storage import archive
from tracehub.storage.archive import ArchiveFailed, Archives

LINES = [b'{"n":%d}' % n for n in range(1000)]


async def test_lines_are_written_as_they_are(tmp_path: Path) -> None:
    await Archives(tmp_path / "a", ["s3"]).write("team", "t/d/x.jsonl.gz", LINES)
    found = gzip.decompress((tmp_path / "a" / "team" / "t" / "d" / "x.jsonl.gz").read_bytes())
    assert found == b"".join(line + b"\n" for line in LINES)
    assert [p.name for p in (tmp_path / "a" / "team" / "t" / "d").iterdir()] == ["x.jsonl.gz"]


async def test_urls_of_any_allowed_scheme(tmp_path: Path) -> None:
    await Archives(tmp_path, ["memory"]).write("memory://bucket/logs", "x.jsonl.gz", LINES)
    with fsspec.open("memory://bucket/logs/x.jsonl.gz", "rb") as raw:
        assert gzip.decompress(raw.read()).splitlines() == LINES


@pytest.mark.parametrize(
    "damage", [lambda ls: ls[:-1], lambda ls: [*ls, b"{}"], lambda ls: [b'{"n":1}', *ls[1:]], lambda ls: []]
)
@pytest.mark.parametrize("path", ["here", "memory://damaged"])
async def test_what_reads_back_otherwise_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, path: str
) -> None:
    put = archive._put
    monkeypatch.setattr(archive, "_put", lambda files, place, lines: put(files, place, damage(lines)))
    with pytest.raises(ArchiveFailed):
        await Archives(tmp_path, ["memory"]).write(path, "x.jsonl.gz", LINES)


async def test_a_file_that_is_cut_off_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = archive._put

    def cut(files: Any, place: str, lines: Any) -> None:
        put(files, place, lines)
        Path(place).write_bytes(Path(place).read_bytes()[:-9])

    monkeypatch.setattr(archive, "_put", cut)
    with pytest.raises(ArchiveFailed):
        await Archives(tmp_path, []).write("here", "x.jsonl.gz", LINES)


async def test_stores_that_are_not_there_have_failed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "nosuch://bucket"):
        with pytest.raises(ArchiveFailed):
            await Archives(tmp_path, ["nosuch"]).write(path, "x.jsonl.gz", LINES)


async def test_a_link_that_was_moved_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidField):
        await Archives(tmp_path / "a", []).write("link", "x.jsonl.gz", LINES)
    assert not (tmp_path / "x.jsonl.gz").exists()
