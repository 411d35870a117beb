"""The connection that scripts share, before a real server: order, and everything that can go wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import exceptions
from redis.asyncio import Redis

from tests.eventually import eventually
from tracehub.storage.redis import line as lines
from tracehub.storage.redis.connect import open_redis
from tracehub.storage.redis.line import Line

ECHO = "return ARGV[1]"
COUNT = "return redis.call('INCR', KEYS[1])"


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Redis]:
    """Somebody else's client."""
    made = open_redis(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[Line]:
    made = open_redis(redis_url)
    yield Line(made)
    await made.aclose()


async def echo(line: Line, value: str) -> str:
    return (await line.run(line.redis.register_script(ECHO), (), (value,))).decode()


async def id_of(line: Line, other: Redis) -> int:
    """The server's name for the line's connection."""
    await echo(line, "x")
    host, port = line._wire._transport.get_extra_info("sockname")
    (found,) = [c["id"] for c in await other.client_list() if c["addr"] == f"{host}:{port}"]
    return int(found)


async def test_each_gets_its_own_answer_over_one_connection(line: Line, other: Redis) -> None:
    first = await id_of(line, other)
    large = "x" * 300_000
    told = await asyncio.gather(*(echo(line, f"{n}{large if n % 50 == 0 else ''}") for n in range(200)))
    assert told == [f"{n}{large if n % 50 == 0 else ''}" for n in range(200)]
    assert await id_of(line, other) == first


async def test_kinds_of_answers(line: Line) -> None:
    script = line.redis.register_script("return {1, 'two', false, {}, {'x', {3}}, {ok='fine'}}")
    assert await line.run(script, ("k",), (1, 2.5, b"\xff")) == [1, b"two", None, [], [b"x", [3]], b"fine"]
    for text, answer in (("return 0", 0), ("return false", None), ("return ''", b"")):
        for _ in range(2):  # the first time the server does not know it
            assert await line.run(line.redis.register_script(text), (), ()) == answer


async def test_a_connection_that_breaks_is_made_again(line: Line, other: Redis) -> None:
    """Between two calls, and while somebody waits: the script is run again."""
    for _ in range(2):
        broken = await id_of(line, other)
        await other.client_kill_filter(_id=str(broken))
        assert await asyncio.gather(*(echo(line, str(n)) for n in range(5))) == list("01234")
        assert await id_of(line, other) != broken
    count = line.redis.register_script(COUNT)
    await line.run(count, ("n",), ())
    broken = await id_of(line, other)
    await other.client_pause(1_000, all=True)
    waiting = asyncio.create_task(line.run(count, ("n",), ()))
    await eventually(lambda: line._wire is not None and line._wire._asked)
    await other.client_kill_filter(_id=str(broken))
    assert await asyncio.wait_for(waiting, 10) in (2, 3)


async def test_an_error_is_the_clients(line: Line) -> None:
    bad = line.redis.register_script("return redis.call('INCR', KEYS[1], 'what')")
    for _ in range(2):
        with pytest.raises(exceptions.ResponseError):
            await line.run(bad, ("n",), ())
    with pytest.raises((exceptions.DataError, TypeError)):
        await line.run(line.redis.register_script(ECHO), (), ({},))
    assert await echo(line, "well") == "well"


async def test_silence_is_told_to_all_who_wait(
    line: Line, other: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SILENCE_S", 0.3)
    await echo(line, "x")
    await other.client_pause(1_000, all=True)
    told = await asyncio.gather(*(echo(line, "x") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in told] == [exceptions.TimeoutError] * 3
    await other.client_unpause()
    assert await echo(line, "well") == "well"


async def test_who_waits_no_longer_takes_nobody_elses_answer(line: Line, other: Redis) -> None:
    await echo(line, "x")
    await other.client_pause(500, all=True)
    waiting = [asyncio.create_task(echo(line, str(n))) for n in range(4)]
    await eventually(lambda: line._wire is not None and len(line._wire._asked) == 4)
    waiting[1].cancel()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert told[0::2] + told[3:] == ["0", "2", "3"]


async def test_broken_connections_are_given_back(redis_url: str, other: Redis) -> None:
    """A pool of a few connections is not used up by those that broke."""
    few = open_redis(f"{redis_url}{'&' if '?' in redis_url else '?'}max_connections=2")
    line = Line(few)
    for n in range(6):
        await other.client_kill_filter(_id=str(await id_of(line, other)))
        assert await echo(line, str(n)) == str(n)
    await few.aclose()


async def test_what_nobody_asked_for_ends_the_connection() -> None:
    """Whatever it is that answers there, the next call finds a connection of its own."""

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(4_096):
            answers = b"+OK\r\n" * command.count(b"*")
            writer.write(answers + b"+SURPRISE\r\n" if b"EVALSHA" in command else answers)
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    client = open_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    line = Line(client)
    assert [await echo(line, "x") for _ in range(3)] == ["OK"] * 3
    await client.aclose()
    server.close()
    await server.wait_closed()


async def test_without_a_server(line: Line) -> None:
    nowhere = open_redis("redis://127.0.0.1:1/0", retries=0)
    with pytest.raises(exceptions.ConnectionError):
        await echo(Line(nowhere), "x")
    await nowhere.aclose()
