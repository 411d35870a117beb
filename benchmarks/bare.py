"""The ceiling of (c): uvicorn and Starlette as they come, one route that reads a body and answers with a
constant. What this needs, no request can do without. `python -m benchmarks.bare PORT`.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ANSWER = b'{"accepted":1}'


async def take(request: Request) -> Response:
    """Read and forget."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


async def health(_: Request) -> Response:
    """It is up."""
    return Response(b"{}")


def main() -> None:
    """Serve until a signal comes."""
    routes = [Route("/ingest", take, methods=["POST"]), Route("/health", health)]
    config = uvicorn.Config(
        Starlette(routes=routes), port=int(sys.argv[1]), http="httptools", log_config=None, access_log=False
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
