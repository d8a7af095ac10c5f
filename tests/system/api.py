"""The stack as its clients see it: HTTP answers, pages of events, and a stream that reconnects as EventSource does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from chassis.testing.eventually import eventually
from tests.system.defaults import API_KEY

FINAL = {"completed", "failed", "canceled"}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream."""

    id: str
    event: str
    data: Json

    @property
    def position(self) -> int:
        return int(self.id.split(".")[1])


class Api:
    """One client of one gateway."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}, timeout=60)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        return answered(await self.http.get(path, params=query), 200)

    async def post(self, path: str, body: Any = None, *, expect: int = 201, **headers: str) -> Any:
        return answered(await self.http.post(path, json=body, headers=headers), expect)

    async def launch(self, title: str, nodes: Sequence[Json], **options: Any) -> str:
        body = {"title": title, "task": list(nodes), "options": options}
        return str((await self.post("/tasks", body, expect=202))["run_id"])

    async def control(self, run_id: str, action: str) -> Any:
        return answered(await self.http.patch(f"/runs/{run_id}", json={"action": action}), 200)

    async def run(self, run_id: str) -> Json:
        found: Json = await self.get(f"/runs/{run_id}")
        return found

    async def nodes(self, run_id: str) -> dict[str, Json]:
        """By key."""
        return {n["key"]: n for n in (await self.run(run_id))["dag"]["nodes"]}

    async def ended(self, run_id: str, status: str = "completed", timeout: float = 60) -> Json:
        """The run when it is over, which must be with this status. Outages on the way are waited out."""
        seen: Json = {}

        async def over() -> bool:
            seen.update(await self.run(run_id))
            return seen["status"] in FINAL

        await eventually(over, timeout=timeout, interval=0.1, what=f"the end of run {run_id}")
        assert seen["status"] == status, (
            seen["error"],
            [(n["key"], n["status"], n["error"]) for n in seen["dag"]["nodes"]],
        )
        return seen

    async def events(self, run_id: str = "") -> list[Json]:
        """All of them, page by page, in the order of the feed."""
        found: list[Json] = []
        where = {"run_id": run_id} if run_id else {}
        while True:
            page = await self.get("/events", limit=200, offset=len(found), order_by="cursor", **where)
            found += page["items"]
            if not page["items"] or len(found) >= page["total"]:
                return found

    async def told_all(self, run_id: str, outcome: str = "COMPLETED", timeout: float = 60) -> list[Json]:
        """The run's events once the last of them are in the feed: its own, and its task's."""

        async def complete() -> list[Json]:
            found = await self.events(run_id)
            return found if {f"RUN_{outcome}", f"TASK_{outcome}"} <= set(levels(found)) else []

        return await eventually(complete, timeout=timeout, interval=0.1, what=f"{outcome} of run {run_id} in the feed")

    @asynccontextmanager
    async def stream(self, run_id: str, last_id: str = "") -> AsyncIterator[AsyncIterator[Told]]:
        """One connection, until either side ends it."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        async with self.http.stream("GET", "/events/stream", params={"run_id": run_id}, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            yield told(response)


class Watcher:
    """An EventSource on a run: remembers all messages, resumes with the last id whenever the connection ends."""

    def __init__(self, urls: Sequence[str], run_id: str) -> None:
        self.seen: list[Told] = []
        self.resets = self.connections = 0
        self._urls, self._run_id = urls, run_id

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def saw(self, level: str, timeout: float = 60) -> list[str]:
        """Waits for an event; then the ids of all events so far."""
        await eventually(
            lambda: any(t.data["level"] == level for t in self.seen), timeout, what=f"{level} in the stream"
        )
        return self.ids

    @property
    def ids(self) -> list[str]:
        return [t.data["id"] for t in self.seen]

    async def _watch(self) -> None:
        last_id = ""
        while True:
            async with Api(self._urls[self.connections % len(self._urls)]) as api:
                try:
                    async with api.stream(self._run_id, last_id) as stream:
                        self.connections += 1
                        async for item in stream:
                            self.resets += item.event == "reset"
                            if item.event == "message":
                                self.seen.append(item)
                            last_id = item.id or last_id
                except (httpx.HTTPError, AssertionError):
                    await asyncio.sleep(0.1)  # what EventSource does: wait, then connect again


async def told(response: httpx.Response) -> AsyncIterator[Told]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "event" in fields:
                yield Told(fields.get("id", ""), fields["event"], json.loads(fields.get("data") or "{}"))
            fields = {}


def answered(response: httpx.Response, status: int) -> Any:
    """The body of an answer that must have this status."""
    assert response.status_code == status, (
        f"{response.request.method} {response.url}: {response.status_code} {response.text[:2000]}"
    )
    return response.json() if response.content else None


def levels(events: Sequence[Json]) -> list[str]:
    return [e["level"] for e in events]
