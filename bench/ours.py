"""Ourselves in a comparison: executors on the common Postgres, timed from commit to commit by the database."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import nats
from nats.aio.client import Client

from bench import cpu, store
from bench.contestant import SETTLE_SECONDS, Full
from bench.ground import Ground
from bench.peers.protocol import WIDTH
from bench.stack import settings
from chassis.postgres import Connection, connect
from contracts.executor import StartRun
from contracts.permissions import KEEPER, inbox_prefix
from contracts.run_facts import RunCompleted
from contracts.subjects import signal
from deploy.local.services import command_of
from deploy.local.supervisor import Running, running_stack

EXECUTORS = 2
PATIENCE = 120.0
WARM_UP_RUNS = 20
WAIT_SECONDS = "BENCH_WAIT_SECONDS"


def fan(kind: str = "noop") -> list[dict[str, Any]]:
    """root → WIDTH in parallel → join"""
    middle = [_node(f"m{n}", kind, "root") for n in range(WIDTH)]
    return [_node("root", kind), *middle, _node("join", kind, *(m["key"] for m in middle))]


def chain(steps: int, kind: str = "noop") -> list[dict[str, Any]]:
    return [_node(f"s{n}", kind, *([f"s{n - 1}"] if n else [])) for n in range(steps)]


def _node(key: str, kind: str, *deps: str) -> dict[str, Any]:
    return {"key": key, "title": key, "kind": kind, "deps": list(deps)}


def order(nodes: Sequence[dict[str, Any]]) -> StartRun:
    return StartRun.model_validate(
        {"command_id": uuid4(), "run_id": uuid4(), "title": "bench", "nodes": nodes, "gate": "off"}
    )


class Heard:
    """Waits until a fact has been told of each of these runs."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._left: set[str] = set()
        self._all = asyncio.Event()

    async def listen(self, bus: Client) -> None:
        await bus.subscribe(self._pattern, cb=self._hear)
        await bus.flush()

    def expect(self, runs: Sequence[UUID]) -> None:
        self._left = {str(run) for run in runs}
        self._all.clear()

    async def all(self) -> None:
        await asyncio.wait_for(self._all.wait(), PATIENCE)

    async def _hear(self, message: Any) -> None:
        self._left.discard(message.subject.rsplit(".", 1)[1])
        if not self._left:
            self._all.set()


class Ours:
    name = "Fluidcrew"
    clock = "from the commit that lets a backlog of committed runs be claimed to the commit of the last completion"

    def __init__(self, running: Running, ground: Ground, bus: Client, connection: Connection) -> None:
        self.bus, self.connection = bus, connection
        self._completed = Heard(RunCompleted.pattern())
        self._templates: dict[str, UUID] = {}
        self._pids = [ground.postgres_pid, *_pids(running)]

    async def listen(self) -> None:
        await self._completed.listen(self.bus)

    async def idle(self, runs: int, wait: float) -> list[float]:
        return [await self._one(fan(_kind(wait))) for _ in range(runs)]

    async def chain(self, steps: int, wait: float) -> float:
        return await self._one(chain(steps, _kind(wait)))

    async def full(self, runs: int, wait: float) -> Full:
        ids = await store.commit_backlog(self.connection, await self.finished(_kind(wait)), runs)
        self._completed.expect(ids)
        before = cpu.seconds(self._pids)
        began = await store.release(self.connection, ids)
        await self.bus.publish(signal("executor", "run"), str(ids[0]).encode())
        await self._completed.all()
        await self.caught_up()
        used = cpu.seconds(self._pids) - before
        ended = await store.last_completion(self.connection, ids)
        return Full(runs, (ended - began).total_seconds(), used)

    async def caught_up(self) -> None:
        """Whatever follows from the facts has been done."""
        await asyncio.sleep(SETTLE_SECONDS)

    async def finished(self, kind: str = "noop") -> UUID:
        """A fan that is over."""
        if kind not in self._templates:
            given = order(fan(kind))
            await self._run(given)
            self._templates[kind] = given.run_id
        return self._templates[kind]

    async def _one(self, nodes: Sequence[dict[str, Any]]) -> float:
        given = order(nodes)
        await self._run(given)
        return await store.seconds_of(self.connection, given.run_id, given.command_id)

    async def _run(self, given: StartRun) -> None:
        self._completed.expect([given.run_id])
        await self.bus.request(StartRun.subject(), given.model_dump_json().encode(), timeout=10)
        await self._completed.all()


class OursWithTimeline(Ours):
    """With a gateway that projects every fact into the timeline; its CPU counts until it has seen them all."""

    name = "Fluidcrew, with a gateway projecting"

    async def caught_up(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self._behind():  # noqa: ASYNC110  # the server tells nobody that a consumer has caught up
                await asyncio.sleep(0.05)
        await super().caught_up()

    async def _behind(self) -> int:
        info = await self.bus.jetstream().consumer_info("EVENTS", "gateway-timeline")
        return (info.num_pending or 0) + (info.num_ack_pending or 0)


def _kind(wait: float) -> str:
    return "agent" if wait else "noop"


def _pids(running: Running) -> list[int]:
    """The services and NATS. The keeper lives in this very process, beside the clients of the benchmark."""
    children = [process.child for process in running.processes] + [running.stack.parts["nats"].child]
    return [child.pid for child in children if child.pid is not None]


@asynccontextmanager
async def ourselves(
    ground: Ground, name: str = "fluidcrew", *, wait: float = 0.0, timeline: bool = False
) -> AsyncIterator[Ours]:
    """Two executors, of which each node sleeps for `wait` where it would call its model, and perhaps a gateway.

    Stacks of another name have a database and a bus of their own.
    """
    services = ("executor", "gateway") if timeline else ("executor",)
    environment = {
        **os.environ,
        **settings(),
        "DATABASE_URL": await ground.database(name),
        "EXECUTOR_CONCURRENCY": "1000" if wait else "256",
        WAIT_SECONDS: str(wait),
    }
    program = (lambda service: [sys.executable, "-m", "bench.waiting"]) if wait else command_of
    async with running_stack(
        ground.home(name),
        {"executor": EXECUTORS},
        environ=environment,
        log=lambda source, line: None,
        services=services,
        command=program,
        wait_healthy=False,
    ) as running:
        bus = await nats.connect(running.stack.nats_urls[KEEPER], inbox_prefix=inbox_prefix(KEEPER))
        connection = await connect(running.stack.databases["executor"], "executor", jit="off")
        ours = (OursWithTimeline if timeline else Ours)(running, ground, bus, connection)
        await ours.listen()
        try:
            await _answering(ours)
            await ours.full(WARM_UP_RUNS, wait)
            yield ours
        finally:
            await connection.close()
            await bus.close()


async def _answering(ours: Ours) -> None:
    """Until a whole run has gone through."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await ours.finished()
                return
            except nats.errors.NoRespondersError:
                await asyncio.sleep(0.1)
