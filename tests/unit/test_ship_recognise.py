"""Times and levels in log lines, and the real files that must all be understood."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ship.recognise import TS_MIN_MS, recognise

REFERENCE = int(datetime(2024, 3, 10, 12, tzinfo=UTC).timestamp() * 1000)
LOGS = Path(__file__).parents[2].parent / "shared" / "data" / "logs"


def at(*parts: int, ms: int = 0) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000) + ms  # type: ignore[misc,arg-type]


TABLE = [
    ("[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok", at(2005, 12, 4, 4, 47, 44), "notice"),
    (
        "[Wed Oct 11 14:32:52.123456 2023] [core:error] [pid 1] x",
        at(2023, 10, 11, 14, 32, 52, ms=123),
        "error",
    ),
    ('::1 - bob [10/Oct/2023:13:55:36 -0700] "GET / HTTP/1.0" 200 2', at(2023, 10, 10, 20, 55, 36), "info"),
    ('1.2.3.4 - - [10/Oct/2023:13:55:36 +0200] "GET /x" 404 2', at(2023, 10, 10, 11, 55, 36), "warning"),
    ('1.2.3.4 - - [10/Oct/2023:13:55:36 +0000] "GET /x" 503 2', at(2023, 10, 10, 13, 55, 36), "error"),
    ("081109 203615 148 INFO dfs.DataNode$PacketResponder: x", at(2008, 11, 9, 20, 36, 15), "INFO"),
    ("17/06/09 20:10:40 WARN executor.Executor: y", at(2017, 6, 9, 20, 10, 40), "WARN"),
    ("Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user webmaster", at(2023, 12, 10, 6, 55, 46), None),
    ("Mar  9 06:55:46 LabSZ sshd[24200]: error: Received disconnect", at(2024, 3, 9, 6, 55, 46), "error"),
    ("<34>Feb 29 22:14:15 mymachine su: 'su root' failed", at(2024, 2, 29, 22, 14, 15), "crit"),
    ("<165>1 2023-10-11T22:14:15.003Z host app - ID47 - x", at(2023, 10, 11, 22, 14, 15, ms=3), "notice"),
    ("nova-api.log 2017-05-16 00:00:00.008 25746 INFO nova [req-1]", at(2017, 5, 16, ms=8), "INFO"),
    ("2015-10-18 18:01:47,978 ERROR [main] org.apache", at(2015, 10, 18, 18, 1, 47, ms=978), "ERROR"),
    ("2023-10-18T18:01:47+02:00 level=warn msg=x", at(2023, 10, 18, 16, 1, 47), "warn"),
    ("ERROR 2023-10-18T18:01:47Z it broke", at(2023, 10, 18, 18, 1, 47), "ERROR"),
    (
        '{"time":"2023-10-18T18:01:47.5Z","level":"Warning","msg":"x"}',
        at(2023, 10, 18, 18, 1, 47, ms=500),
        "Warning",
    ),
    ('{"ts":1697652107.25,"lvl":"debug"}', 1_697_652_107_250, "debug"),
    ('{"timestamp":1697652107250,"severity":"ERROR"}', 1_697_652_107_250, "ERROR"),
    ('{"@timestamp":"2023-10-18 18:01:47"}', at(2023, 10, 18, 18, 1, 47), None),
    ("java.lang.NullPointerException: x", None, None),
    ("    at org.apache.Foo(Foo.java:12)", None, None),
    ("", None, None),
    ("{not json", None, None),
    ('{"time": NaN, "level": 7}', None, None),
    ("[Sun Feb 31 04:47:44 2005] [error] no such day", None, "error"),
    ("1999-12-31 23:59:59 INFO before the server's time", None, "INFO"),
    ("2031-01-01 00:00:00 WARN after it", None, "WARN"),
]


@pytest.mark.parametrize(("line", "ts", "level"), TABLE)
def test_known_formats(line: str, ts: int | None, level: str | None) -> None:
    """Each line with the time and level that a person would read from it."""
    found = recognise(line, REFERENCE)
    assert (found.ts, found.level) == (ts, level)


def test_year_is_the_latest_that_is_past() -> None:
    """A line of December, read in January, is of last year."""
    january = at(2025, 1, 2)
    assert recognise("Dec 31 23:59:59 h p: x", january).ts == at(2024, 12, 31, 23, 59, 59)
    assert recognise("Jan  2 00:00:00 h p: x", january).ts == january
    assert recognise("Feb 29 00:00:00 h p: x", january).ts == at(2024, 2, 29)


def test_columns_are_found() -> None:
    """Host and program of syslog, request of OpenStack, ids of JSON."""
    assert recognise("Mar 9 06:55:46 LabSZ sshd[2]: x", REFERENCE).fields == {
        "host": "LabSZ",
        "source": "sshd",
    }
    request = "req-38101a0b-2096-447d-96ea-a692162415ae"
    line = f"nova.log 2017-05-16 00:00:00.008 2 INFO nova.wsgi [{request} 1 2 - - -] x"
    assert recognise(line, REFERENCE).fields == {"request_id": request}
    assert recognise('{"traceId":"abc","host":"h1","user_id":7}', REFERENCE).fields == {
        "trace_id": "abc",
        "host": "h1",
    }


@given(st.text(max_size=300))
def test_anything_is_read_without_error(line: str) -> None:
    """And a time is never one that the server refuses."""
    ts = recognise(line, REFERENCE).ts
    assert ts is None or TS_MIN_MS <= ts <= REFERENCE + 86_400_000


@pytest.mark.parametrize("name", ["apache", "hdfs", "openssh", "openstack"])
def test_real_files_are_understood(name: str) -> None:
    """Every line of the real logs has a time, in order of the file where the file is in order."""
    path = LOGS / f"{name}.log"
    if not path.exists():
        pytest.skip(f"the real log files are not at {LOGS.name}/ beside the repository")
    lines = path.read_bytes().decode().splitlines()
    found = [recognise(line, REFERENCE) for line in lines]
    assert all(one.ts is not None for one in found)
    if name != "openssh":
        assert all(one.level is not None for one in found)
