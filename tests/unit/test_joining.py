"""The head of an answer leaves with its body, and never later than the loop's next step."""

import asyncio

from apps.backend.protocol import Joining

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


async def next_step() -> None:
    loop = asyncio.get_running_loop()
    step = loop.create_future()
    loop.call_soon(step.set_result, None)
    await step


class Sent:
    """A transport that remembers what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append(b"closed")

    def is_closing(self) -> bool:
        return self.told[-1:] == [b"closed"]


async def test_head_and_body_leave_together():
    sent = Sent()
    joining = Joining(sent, asyncio.get_running_loop())
    joining.write(HEAD)
    joining.write(b"ok")
    joining.write(b"more")
    assert sent.told == [HEAD + b"ok", b"more"]
    await next_step()
    assert sent.told == [HEAD + b"ok", b"more"]


async def test_a_head_whose_body_comes_later_does_not_wait_for_it():
    sent = Sent()
    joining = Joining(sent, asyncio.get_running_loop())
    joining.write(HEAD)
    assert sent.told == []
    await next_step()
    assert sent.told == [HEAD]
    joining.write(b"ok")
    assert sent.told == [HEAD, b"ok"]


async def test_closing_sends_the_head_first():
    sent = Sent()
    joining = Joining(sent, asyncio.get_running_loop())
    joining.write(HEAD)
    joining.close()
    await next_step()
    assert sent.told == [HEAD, b"closed"]
    assert joining.is_closing()
