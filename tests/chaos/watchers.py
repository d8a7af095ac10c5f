"""Watchers of runs over SSE: they remember every event, lose their connection as often as told, and resume."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import httpx

from tests.chaos.history import ENDS, Recorder
from tests.system.api import Told, told
from tests.system.defaults import API_KEY

RECONNECT = 0.1
LATER, LATEST = 0.5, 4.0  # after 204, and twice as long each time
SILENCE = 60.0  # seconds
TASK_ENDS = {"TASK_COMPLETED", "TASK_FAILED", "TASK_READY"}


class Watcher:
    """One EventSource on a run. `hangs_up` is how many seconds it keeps a connection at most; 0 is for ever."""

    def __init__(
        self, name: str, urls: Sequence[str], run: str, recorder: Recorder, rng: random.Random, hangs_up: float = 0
    ) -> None:
        self.name, self.run, self.ids = name, run, list[str]()
        self._urls, self._recorder, self._rng, self._hangs_up = list(urls), recorder, rng, hangs_up
        self._last, self._pause, self._holds_on = "", RECONNECT, 1.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}, timeout=30) as http:
            while True:
                heard = len(self.ids)
                try:
                    async with asyncio.timeout(self._until_it_hangs_up()):
                        await self._connection(http)
                except (TimeoutError, httpx.HTTPError):
                    pass  # what EventSource does: wait, then connect again
                self._holds_on = 1.0 if len(self.ids) > heard else 2 * self._holds_on
                await asyncio.sleep(self._pause)

    def _until_it_hangs_up(self) -> float | None:
        """Seconds. Where nothing was heard the next line is kept for longer: a slow machine would never tell it more."""
        return self._rng.uniform(0.2, self._hangs_up) * self._holds_on if self._hangs_up else None

    async def _connection(self, http: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        url = f"{self._rng.choice(self._urls)}/events/stream"
        async with http.stream("GET", url, params={"run_id": self.run}, headers=headers) as response:
            over = response.status_code == 204  # its task may still have something to say
            self._pause = min(max(2 * self._pause, LATER), LATEST) if over else RECONNECT
            if response.status_code != 200:
                return
            async for event in told(response):
                self._hear(event)

    def _hear(self, event: Told) -> None:
        if event.event != "message":
            self._recorder.note("stream", watcher=self.name, run_id=self.run, event=event.event, data=event.data)
            return
        self._last = event.id or self._last
        self.ids.append(event.data["id"])
        level = event.data["level"]
        self._recorder.note("seen", watcher=self.name, run_id=self.run, id=event.data["id"], level=level)


async def first_of(url: str, run: str, last_id: str) -> tuple[str, str]:
    """What a stream that is resumed with an id says first: the event's name, and the id of the first fact."""
    try:
        async with asyncio.timeout(SILENCE):
            return await _first_of(url, run, last_id)
    except TimeoutError:
        return "silence", ""


async def _first_of(url: str, run: str, last_id: str) -> tuple[str, str]:
    opening, query, headers = "", {"run_id": run}, {"X-API-Key": API_KEY, "Last-Event-ID": last_id}
    async with (
        httpx.AsyncClient(headers=headers, timeout=30) as http,
        http.stream("GET", f"{url}/events/stream", params=query) as answer,
    ):
        if answer.status_code != 200:
            return str(answer.status_code), ""
        async for event in told(answer):
            opening = opening or event.event
            if event.event == "message":
                return opening, str(event.data["id"])
    return opening, ""


def is_over(levels: Sequence[str]) -> bool:
    return any(level in ENDS for level in levels) and any(level in TASK_ENDS for level in levels)
