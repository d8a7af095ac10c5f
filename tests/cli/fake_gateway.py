"""A small gateway that speaks the contract over real HTTP, answers what a test tells it to, and breaks on demand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chassis.testing.loopback_http import Dropped, HttpRequest, HttpResponse

RUN_ID = "3f2a91c0-5b1d-4c3e-9a77-0c6f2b1d8e90"
KEY = "test-key"
DIES = 0  # a status: the connection is cut before an answer


def node(key: str, *deps: str, status: str = "queued", **more: Any) -> dict[str, Any]:
    """A Node as the API answers it."""
    return {
        "id": f"node-{key}",
        "key": key,
        "title": f"Do {key}",
        "deps": list(deps),
        "status": status,
        "role": "writer",
    } | more


def event(level: str, position: int, **told: Any) -> dict[str, Any]:
    """An Event as the API answers it."""
    return {
        "id": f"e{position}",
        "run_id": RUN_ID,
        "level": level,
        "timestamp": "2025-03-01T12:00:00Z",
        "message": json.dumps(told),
    }


@dataclass
class FakeGateway:
    """`answers` maps `METHOD /path` to a status and a body, or to several that are given one after the other."""

    answers: dict[str, list[tuple[int, Any]]] = field(
        default_factory=lambda: {"GET /tasks": [(200, {"items": [], "total": 0})]}
    )
    facts: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)  # by path, for who accepts Markdown
    break_after: int | None = None  # facts on a connection, in the middle of the next one
    asked: list[HttpRequest] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, what: str, *answers: tuple[int, Any]) -> None:
        self.answers[what] = list(answers)

    def requests(self, path: str) -> list[HttpRequest]:
        return [request for request in self.asked if urlsplit(request.path).path == path]

    async def handle(self, request: HttpRequest, response: HttpResponse) -> None:
        self.asked.append(request)
        path = urlsplit(request.path).path
        if request.headers.get("x-api-key") != KEY:
            await response.json(401, {"detail": "missing or wrong API key"}, {"WWW-Authenticate": "ApiKey"})
        elif path == "/events/stream":
            await self._stream(request, response)
        elif path in self.reports and request.headers["accept"] == "text/markdown":
            await response.send(200, self.reports[path].encode(), {"content-type": "text/markdown; charset=utf-8"})
        else:
            waiting = self.answers.get(f"{request.method} {path}", [(404, {"detail": f"there is no {path}"})])
            status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if status == DIES:
                raise Dropped
            headers = {"Retry-After": "0"} if status == 503 else None
            await (response.send(status, body) if isinstance(body, bytes) else response.json(status, body, headers))

    async def _stream(self, request: HttpRequest, response: HttpResponse) -> None:
        """As the gateway does: from the beginning, or behind the last id."""
        assert parse_qs(urlsplit(request.path).query)["run_id"] == [RUN_ID]
        seen = int((request.headers.get("last-event-id") or "0.0").split(".")[1])
        await response.start(200, {"content-type": "text/event-stream"})
        await response.chunk(b"retry: 10\n\n: still here\n\n")
        for sent, fact in enumerate(self.facts[seen:]):
            data = json.dumps(fact, ensure_ascii=False)
            frame = f"id: aaaaaaaa.{seen + sent + 1}\nevent: message\ndata: {data}\n\n".encode()
            if self.break_after is not None and sent >= self.break_after:
                await response.chunk(frame[: len(frame) // 2])
                raise Dropped
            await response.chunk(frame)
        await asyncio.Event().wait()


def finished_run(*nodes: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A Run as `GET /runs/{id}` answers it."""
    run = {"id": RUN_ID, "title": "A study", "status": status, "dry_run": False, "error": None, "pause_reasons": []}
    times = {
        "created_at": "2025-03-01T12:00:00Z",
        "started_at": "2025-03-01T12:00:00Z",
        "ended_at": "2025-03-01T12:00:03Z",
    }
    return run | times | {"dag": {"nodes": list(nodes), "edges": []}} | more
