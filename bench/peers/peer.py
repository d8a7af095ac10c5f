"""A peer in a comparison: which environment, servers and processes it needs, and what of them counts as its CPU."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from bench import cpu
from bench.contestant import SETTLE_SECONDS, Full
from bench.ground import Ground
from bench.peers import environments
from bench.peers.process import Driver, awake, driver, wake
from bench.peers.redis import redis
from deploy.local.environment import CHECKOUT
from deploy.local.process import Child

SLOTS = {False: "4", True: "32"}  # Celery's processes: one per core; many when tasks wait
QUIET = {"PYTHONWARNINGS": "ignore", "LANGSMITH_TRACING": "false", "DO_NOT_TRACK": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Peer:
    """`sleepers` are stopped between its turns, `counted` are the processes whose CPU is its own."""

    def __init__(
        self, name: str, clock: str, driving: Driver, *, counted: Sequence[int], sleepers: Sequence[int], versions: str
    ) -> None:
        self.name, self.clock, self.versions = name, clock, versions
        self._driver, self._counted, self._sleepers = driving, counted, sleepers

    async def idle(self, runs: int, wait: float) -> list[float]:
        latencies: list[float] = (await self._ask("idle", runs=runs, wait=wait))["latencies"]
        return latencies

    async def chain(self, steps: int, wait: float) -> float:
        return float((await self._ask("chain", steps=steps, wait=wait))["seconds"])

    async def full(self, runs: int, wait: float) -> Full:
        before = cpu.seconds(self._counted)
        answer = await self._ask("full", runs=runs, wait=wait, settle=SETTLE_SECONDS)
        return Full(runs, answer["seconds"], cpu.seconds(self._counted) - before)

    async def _ask(self, do: str, **given: Any) -> dict[str, Any]:
        with awake(self._sleepers):
            return await self._driver.ask(do, **given)


Entering = Callable[[Ground, bool], AbstractAsyncContextManager[Peer]]


@asynccontextmanager
async def celery(ground: Ground, waiting: bool) -> AsyncIterator[Peer]:
    venv, home = environments.environment("celery"), ground.directory / "celery"
    home.mkdir(exist_ok=True)
    async with redis(home) as server:
        environ = QUIET | {"BENCH_REDIS_URL": server.url}
        worker = _worker(venv, home, environ, SLOTS[waiting])
        worker.launch()
        assert worker.pid is not None
        try:
            module = "bench.peers.celery.driver"
            async with driver(venv / "bin/python", module, home / "driver.log", environ) as driving:
                await driving.ask("idle", runs=3, wait=0)
                yield Peer(
                    "Celery + Redis",
                    "from the order to read a backlog of starts in Redis to the end of the last join",
                    driving,
                    counted=[worker.pid, server.pid],
                    sleepers=[worker.pid],
                    versions=_versions(driving, server.version),
                )
        finally:
            wake([worker.pid])
            await worker.stop()


def _worker(venv: Path, home: Path, environ: dict[str, str], slots: str) -> Child:
    command: list[str | Path] = [venv / "bin/celery", "-A", "bench.peers.celery.tasks", "worker"]
    options = ["-P", "prefork", "-c", slots, "-l", "WARNING", "--without-gossip", "--without-mingle"]
    log, environ = home / "worker.log", {**os.environ, **environ}
    return Child("celery", [*command, *options], log, env=environ, cwd=CHECKOUT, stop_signal=signal.SIGTERM)


@asynccontextmanager
async def dbos(ground: Ground, waiting: bool) -> AsyncIterator[Peer]:
    clock = "from the first call to start a workflow to the last result; a start is one commit of twelve"
    async with _on_postgres(ground, "dbos", "DBOS", clock) as peer:
        yield peer


@asynccontextmanager
async def langgraph(ground: Ground, waiting: bool) -> AsyncIterator[Peer]:
    clock = "from the first call to run a graph (64 at once) to the last result; a start is one checkpoint of five"
    async with _on_postgres(ground, "langgraph", "LangGraph + Postgres saver", clock) as peer:
        yield peer


@asynccontextmanager
async def _on_postgres(ground: Ground, name: str, title: str, clock: str) -> AsyncIterator[Peer]:
    """One process that is client and worker at once, on a database of its own."""
    python = environments.environment(name) / "bin/python"
    environ = QUIET | {"BENCH_DATABASE_URL": await ground.database(name)}
    log = ground.directory / f"{name}.log"
    async with driver(python, f"bench.peers.{name}.driver", log, environ) as driving:
        await driving.ask("idle", runs=3, wait=0)
        counted = [driving.pid, ground.postgres_pid]
        try:
            yield Peer(title, clock, driving, counted=counted, sleepers=[driving.pid], versions=_versions(driving))
        finally:
            wake([driving.pid])


def _versions(driving: Driver, *more: str) -> str:
    return ", ".join([*(f"{name} {version}" for name, version in driving.versions.items()), *more])


PEERS: dict[str, Entering] = {"celery": celery, "dbos": dbos, "langgraph": langgraph}
