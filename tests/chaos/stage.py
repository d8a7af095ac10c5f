"""What a scenario plays on: the stack, its clients and witnesses, and at the end the history that is judged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.chaos.client import Client
from tests.chaos.history import ENDS, Record, Recorder
from tests.chaos.model_server import JUDGE, judged_result
from tests.chaos.orders import ordered_by
from tests.chaos.watchers import Watcher, is_over
from tests.chaos.world import MOST_TOKENS, PRICE_OF_A_TOKEN, ChaosWorld
from tests.system.defaults import CONCURRENCY
from tests.system.ledger import Ledger, marks_of

ENDING = 60.0  # seconds after the last fault, as promised
OWNERS = ("planner", "executor", "feedback", "publisher", "rag", "gateway")
PAGE = 200


@dataclass
class Stage:
    world: ChaosWorld
    rng: random.Random  # of the faults alone: whoever else draws, and when, must not change them
    recorder: Recorder
    client: Client
    ledger: Ledger
    after: int  # the feed's last position before this scenario
    calls_before: int
    buried_before: dict[str, int]
    fenced_before: int
    held: AsyncExitStack
    seed: str
    runs: list[str] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    buried: dict[str, int] = field(default_factory=dict)  # dead letters that this scenario means to make
    ending: float = ENDING
    collected: bool = False
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)  # of each run: key to id
    people: random.Random = field(default_factory=random.Random)  # what they do depends on what they see
    tasks_follow: bool = True  # each run is the last of its task, which tells of its end as well

    @asynccontextmanager
    async def fault(self, name: str, executors: int = 0, reviewers: int = 0) -> AsyncIterator[None]:
        """`executors` and `reviewers` are how many lose what they had in flight by it."""
        began = time.time()
        try:
            yield
        finally:
            self.recorder.note("fault", name=name, began=began, executors=executors, reviewers=reviewers)

    def dice(self, whose: str) -> random.Random:
        return random.Random(f"{self.seed} {whose}")

    def figure(self, name: str, value: float, limit: float | None = None) -> None:
        self.recorder.note("figure", name=name, value=value, limit=limit)

    async def watch(self, run: str, hangs_up: float = 0) -> Watcher:
        """Until the stage is over."""
        name = f"w{len(self.watchers)}"
        watcher = Watcher(name, self.world.gateways, run, self.recorder, self.dice(name), hangs_up)
        self.watchers.append(await self.held.enter_async_context(watcher))
        return watcher

    async def node_of(self, run: str, key: str) -> str:
        """Its id."""
        if run not in self.nodes:
            found = await self.got(f"/runs/{run}")
            self.nodes[run] = {node["key"]: node["id"] for node in found["dag"]["nodes"]}
        return self.nodes[run][key]

    # the end

    async def settled(self) -> None:
        """Everything accepted is over and told, or noted as late. Nobody watches any more then."""
        await self.world.until_all_serve()
        deadline = time.monotonic() + self.ending
        for run in dict.fromkeys(self.runs):
            await self._until(lambda run=run: self.is_told(run), deadline, f"the end of run {run}")
        for draft in self.drafts:
            await self._until(lambda draft=draft: self._is_told_of(draft), deadline, f"the creation of task {draft}")
        self.recorder.note("watched", until=await head(self.world))  # an artifact may be told of after that
        for run in dict.fromkeys(watcher.run for watcher in self.watchers):
            await self._until(lambda run=run: self._was_seen(run), deadline, f"the end of what is seen of run {run}")
        await self.held.aclose()

    async def collect(self) -> None:
        """What the witnesses know goes into the history."""
        self.collected = True
        facts = await self.facts(self.after)
        for fact in facts:
            self.recorder.note("fact", **fact)
        mine = {*self.runs}
        for run in mine:
            await self._note_run(run)
        for task in {f["task_id"] for f in facts if f["run_id"] in mine and f["task_id"]}:
            found = await self.got(f"/tasks/{task}")
            self.recorder.note("task", id=task, status=found["status"])
        await self._note_calls()
        for owner in OWNERS:
            expected = self.buried_before[owner] + self.buried.get(owner, 0)
            self.recorder.note("dead letters", owner=owner, found=await buried(self.client, owner), expected=expected)
        self.recorder.note("leases lost", count=self.world.leases_lost() - self.fenced_before)
        for name, code in self.world.deaths:
            self.recorder.note("died", name=name, code=code)
        self.world.deaths.clear()

    async def facts(self, after: int = 0) -> list[Record]:
        """The feed beyond a position, as GET /events tells it, page by page."""
        found: list[Record] = []
        while True:
            page = await self.got("/events", limit=PAGE, offset=after + len(found), order_by="cursor")
            found += [_fact(event) for event in page["items"]]
            if len(page["items"]) < PAGE:
                return found

    async def _note_run(self, run: str) -> None:
        found = await self.got(f"/runs/{run}")
        nodes = {node["key"]: node["status"] for node in found["dag"]["nodes"]}
        self.recorder.note("run", id=run, status=found["status"], error=found["error"], nodes=nodes)

    async def _note_calls(self) -> None:
        for call in (await self.ledger.calls())[self.calls_before :]:
            for plan, key in marks_of(call).items():
                about = {
                    "outcome": call.outcome,
                    "status": call.status,
                    "ended": call.ended_at,
                    "charged": call.charged,
                }
                if call.model == JUDGE:
                    about["grade"], about["of"] = judged_result(call.user)
                else:
                    about["ordered_by"] = ordered_by(call)
                kind = "review" if call.model == JUDGE else "model"
                self.recorder.note(kind, number=call.number, plan=plan, key=key, began=call.at, **about)

    async def _until(self, holds: Callable[[], Awaitable[bool]], deadline: float, what: str) -> None:
        while not await holds():
            if time.monotonic() > deadline:
                self.recorder.note("late", what=what)
                return
            await asyncio.sleep(0.1)

    async def is_told(self, run: str) -> bool:
        page = await self.client.get("/events", run_id=run, limit=PAGE, order_by="-cursor")
        levels = [event["level"] for event in page["items"]] if page is not None else []
        return is_over(levels) if self.tasks_follow else any(level in ENDS for level in levels)

    async def _is_told_of(self, task: str) -> bool:
        page = await self.client.get("/events", q=task, level="TASK_CREATED")
        return page is not None and page["total"] > 0

    async def _was_seen(self, run: str) -> bool:
        page = await self.client.get("/events", run_id=run, limit=1)
        watchers = [watcher for watcher in self.watchers if watcher.run == run]
        return page is not None and all(len(watcher.ids) >= page["total"] for watcher in watchers)

    async def got(self, path: str, **query: Any) -> Any:
        """What must be there by now."""
        deadline = time.monotonic() + ENDING
        while (found := await self.client.get(path, **query)) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} could not be had\n{self.world.log_tails(10)}")
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def staged(world: ChaosWorld, file: Path, name: str, seed: str, **about: Any) -> AsyncIterator[Stage]:
    """A stage whose history begins here, on a stack that serves."""
    named = f"{seed} {name}"
    await world.until_all_serve()
    ledger = Ledger(world.llm_url)
    async with world.supervised():
        after, before, calls = await head(world), await all_buried(world), len(await ledger.calls())
        about |= {"after": after, "in_flight": CONCURRENCY, "price": float(PRICE_OF_A_TOKEN)}
        about["most"] = float(PRICE_OF_A_TOKEN * MOST_TOKENS)
        recorder = Recorder(file, name=name, seed=seed, **about)
        try:
            async with (
                Client(world.gateways, recorder, random.Random(f"{named} client")) as client,
                AsyncExitStack() as held,
            ):
                fenced = world.leases_lost()
                rng = random.Random(named)
                stage = Stage(world, rng, recorder, client, ledger, after, calls, before, fenced, held, named)
                stage.people = stage.dice("people")
                yield stage
        finally:
            await ledger.forget_script()
            recorder.close()


async def head(world: ChaosWorld) -> int:
    async with Client(world.gateways, _Deaf(), random.Random()) as client:
        deadline = time.monotonic() + ENDING  # a busy stack may say 503 as well
        while (page := await client.get("/events", limit=1, order_by="-cursor")) is None:
            assert time.monotonic() < deadline, "the stack serves by now"
            await asyncio.sleep(0.1)
    return _fact(page["items"][0])["position"] if page["items"] else 0


async def all_buried(world: ChaosWorld) -> dict[str, int]:
    async with Client(world.gateways, _Deaf(), random.Random()) as client:
        return {owner: await buried(client, owner) for owner in OWNERS}


async def buried(client: Client, owner: str) -> int:
    """How many dead letters the owner has; -1 when it cannot say."""
    deadline = time.monotonic() + ENDING
    while time.monotonic() < deadline:
        if (page := await client.get(f"/admin/dead-letters/{owner}", limit=1)) is not None:
            return int(page["total"])
        await asyncio.sleep(0.1)
    return -1


class _Deaf(Recorder):
    """For questions that are asked before there is a history."""

    def __init__(self) -> None:
        """Nothing to open."""

    def note(self, kind: str, **fields: Any) -> None:
        """Nothing to write to."""


def _fact(event: dict[str, Any]) -> Record:
    return {
        "id": event["id"],
        "position": int(event["cursor"].split(".")[1]),
        "level": event["level"],
        "run_id": event["run_id"],
        "task_id": event["task_id"],
        "told_at": datetime.fromisoformat(event["timestamp"]).timestamp(),
        "body": json.loads(event["message"]),
    }
