"""The watcher of a drill: follows the run over HTTP as anybody would, until it has heard all that the API tells of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fluidcrew.client import Gateway
from fluidcrew.drill_witness import Witness
from fluidcrew.progress import FINAL, Happened, RunView
from fluidcrew.sse import Message
from fluidcrew.watching import Lines

LAST_WORDS = 20.0  # seconds for the last facts to arrive
LOOK = 0.2
PAGE = 200


@dataclass(frozen=True, slots=True)
class Watcher:
    """`over` is set when the run has ended and its task has been told so. Artifacts may follow even then."""

    api: Gateway
    view: RunView
    witness: Witness
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, lines: Lines | None) -> None:
        """For as long as it is let."""
        told: set[str] = set()
        async for message in self.api.events("/events/stream", run_id=self.view.id):
            if message.event != "message":
                continue
            happened = self._hear(message)
            if lines is not None:
                lines.happened(self.view, happened)
            told.add(happened.level)
            if self.view.status in FINAL and f"TASK_{self.view.status.upper()}" in told:  # whichever came first
                self.over.set()

    def _hear(self, message: Message) -> Happened:
        event = json.loads(message.data)
        happened = Happened.of(event)
        self.view.apply(happened)
        self.witness.hear(event, time.time())
        return happened

    async def told(self) -> tuple[Sequence[str], Sequence[str]]:
        """Ids of the run's facts and of all tasks as the API lists them, once they are heard, or will not be any more."""
        deadline = time.monotonic() + LAST_WORDS
        while True:
            facts = [event["id"] for event in await self._events(run_id=self.view.id)]
            tasks = [event["task_id"] for event in await self._events(level="TASK_CREATED")]
            heard = {fact.id for fact in self.witness.seen}
            if (
                heard.issuperset(facts) and set(tasks).issuperset(self.witness.accepted)
            ) or time.monotonic() > deadline:
                return facts, tasks
            await asyncio.sleep(LOOK)

    async def _events(self, **query: str) -> Sequence[dict[str, str]]:
        found: list[dict[str, str]] = []
        while True:
            page = (await self.api.get("/events", limit=PAGE, offset=len(found), **query))["items"]
            found += page
            if len(page) < PAGE:
                return found
