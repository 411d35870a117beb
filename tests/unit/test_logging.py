"""One event is one line, whatever it carries, and secrets stay inside."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tracehub.runtime.logging import configure, masked, printable


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines_of(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(level, form, stream)
    return stream


@pytest.mark.parametrize("form", ["json", "console"])
def test_event_is_one_harmless_line(form: str) -> None:
    """Somebody's message can neither forge a line nor speak to the terminal."""
    stream = lines_of(form)
    structlog.get_logger().warning("bad", text="a\nlevel=error \x1b[2J\u2028\u202e\ud800", n=3)
    logging.getLogger("library").error("of a library: %s", "x\r\ny")
    written = stream.getvalue()
    assert written.count("\n") == 2
    assert written.isascii()
    assert "\x1b" not in written


def test_json_has_time_level_event_first() -> None:
    stream = lines_of("json")
    structlog.get_logger().info("stored", rows=5, took_ms=1.5, ok=True, big=2**70)
    event = json.loads(stream.getvalue())
    assert list(event)[:3] == ["at", "level", "event"]
    assert (event["rows"], event["took_ms"], event["ok"], event["big"]) == (5, 1.5, True, str(2**70))


def test_exception_stays_on_its_line() -> None:
    stream = lines_of("json")
    try:
        raise ValueError("no\nway")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in json.loads(stream.getvalue())["exception"]


def test_secrets_are_masked() -> None:
    stream = lines_of("json")
    structlog.get_logger().info("connect", url="redis://:s3cret@h:1/0", password="s3cret", api_key="s3cret")
    logging.getLogger("library").error("to postgresql://me:s3cret@db/x")
    assert "s3cret" not in stream.getvalue()
    assert masked("postgresql://me:a:b@db/x") == "postgresql://me:***@db/x"
    assert masked("redis://:a@b@h:1/0 to redis://:c@h") == "redis://:***@h:1/0 to redis://:***@h"
    assert masked("postgresql://db/x?user=me&password=p") == "postgresql://db/x?user=me&password=***"
    assert masked("http://127.0.0.1:3001/x@y") == "http://127.0.0.1:3001/x@y"


def test_level_and_form_are_checked() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        configure("nonsense")
    with pytest.raises(ValueError, match="xml"):
        configure("info", "xml")


def test_level_filters_both_kinds() -> None:
    stream = lines_of("json", "warning")
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    assert stream.getvalue() == ""


def test_printable_escapes_and_keeps_the_rest() -> None:
    assert printable("Grüße\t\x00") == "Grüße\\t\\x00"
