"""The examples of the README run as printed, against a server that is there."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from sdk_log_server import LogServer
from sdk_model_server import HttpModelServer
from sdk_valkey import Valkey, eventually

from tracehub_sdk import TraceHubHandler

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(valkey: Valkey, server: HttpModelServer, log_server: LogServer, number: int) -> None:
    """And what it logs is stored."""
    code = EXAMPLES[number].replace("redis://127.0.0.1:6379/0", valkey.url)
    if "LogClient" in code:
        exec(code.replace("http://127.0.0.1:3001", log_server.url), {})
        assert log_server.messages() == ["order placed", "one", "two"]
        return
    before = list(logging.getLogger().handlers)
    try:
        exec(code.replace("http://127.0.0.1:3001", server.url), {})
        eventually(lambda: server.model.messages("shop"))
    finally:
        for handler in [h for h in logging.getLogger().handlers if h not in before]:
            if isinstance(handler, TraceHubHandler):
                logging.getLogger().removeHandler(handler)
                handler.close()


def test_there_are_examples() -> None:
    """Producer, handler, asyncio, and the client without a Redis."""
    assert len(EXAMPLES) == 4
