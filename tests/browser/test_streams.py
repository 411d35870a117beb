"""A browser's own EventSource and WebSocket, as they are, on our streams."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import httpx
from playwright.sync_api import Page

from tests.eventually import eventually_sync

Look = Callable[..., Page]

EVENTS = """service => {
  window.heard = [];
  const source = new EventSource(`/api/v1/logs/stream?service=${service}`);
  source.onmessage = event => window.heard.push([event.lastEventId, JSON.parse(event.data)]);
  return new Promise(done => source.onopen = () => done(true));
}"""
SOCKET = """service => {
  window.frames_ = [];
  const socket = new WebSocket(`ws://${location.host}/ws?app_key=${service}`);
  socket.onmessage = event => window.frames_.push(JSON.parse(event.data));
  return new Promise(done => socket.onopen = () => done(true));
}"""


def write(api: httpx.Client, service: str, *messages: str) -> None:
    entries = [{"service_name": service, "message": message} for message in messages]
    assert api.post("/api/v1/logs/batch", json={"entries": entries}).status_code == 201


def test_event_source_hears_everything_and_resumes(look: Look, api: httpx.Client) -> None:
    service = f"sse-{uuid.uuid4().hex[:8]}"
    page = look("/")
    page.evaluate(EVENTS, service)
    write(api, service, "one\n<b>two</b>", "three")
    eventually_sync(lambda: page.evaluate("window.heard.length") == 2, 10)
    heard = page.evaluate("window.heard")
    stored = api.get("/api/v1/logs", params={"service": service, "order": "asc"}).json()["data"]["entries"]
    assert [entry for _, entry in heard] == stored
    write(api, service, "four")
    since = {"last_event_id": heard[-1][0], "service": service}
    with api.stream("GET", "/api/v1/logs/stream", params=since) as answer:
        data = next(line for line in answer.iter_lines() if line.startswith("data: "))
    assert '"message":"four"' in data


def test_websocket_hears_what_is_stored(look: Look, api: httpx.Client) -> None:
    service = f"ws-{uuid.uuid4().hex[:8]}"
    page = look("/")
    page.evaluate(SOCKET, service)
    eventually_sync(lambda: page.evaluate("window.frames_.length") == 1, 10)
    assert page.evaluate("window.frames_[0].type") == "connected"
    told = api.post("/api/logs", json={"app_key": service, "app_id": "i", "message": "ü"}).json()
    eventually_sync(lambda: page.evaluate("window.frames_.length") == 2, 10)
    assert page.evaluate("window.frames_[1]") == {"type": "log", "data": told["entries"][0]}
