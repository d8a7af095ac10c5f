"""A process that was frozen just before a call: it must not send it when it wakes up and another has long made it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore2
import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.executor import RunStatus
from services.executor.engine.leases import Lease
from tests.executor.conftest import World, agent
from tests.executor.test_ownership import engine_of


class Freeze:
    """Of the first lease's holder, as it looks to itself, in the moment after its request's connection was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lease: Lease | None = None
        self.in_doubt: Lease | None = None
        self.beats = True
        self.asked = 0  # how often it was looked at in its doubt
        self.connected = asyncio.Event()
        self._fresh, self._beat = Lease.is_fresh, Lease._beat
        self._connect = httpcore2._backends.auto.AutoBackend.connect_tcp  # type: ignore[attr-defined]
        freeze = self

        async def connect(backend: Any, *where: Any, **how: Any) -> Any:
            stream = await freeze._connect(backend, *where, **how)
            if not freeze.connected.is_set():
                freeze.in_doubt = freeze.lease
                freeze.connected.set()
            return stream

        async def beat(lease: Lease) -> None:
            if freeze.beats or lease is not freeze.in_doubt:
                await freeze._beat(lease)

        monkeypatch.setattr(httpcore2._backends.auto.AutoBackend, "connect_tcp", connect)

        def fresh(lease: Lease) -> bool:
            freeze.asked += lease is freeze.in_doubt
            return freeze._fresh(lease) and lease is not freeze.in_doubt

        monkeypatch.setattr(Lease, "is_fresh", fresh)
        monkeypatch.setattr(Lease, "_beat", beat)


@pytest.fixture
def freeze(monkeypatch: pytest.MonkeyPatch) -> Freeze:
    return Freeze(monkeypatch)


async def test_a_call_waits_on_its_connection_while_the_lease_is_in_doubt(
    model: FakeOpenAI, world: World, freeze: Freeze
) -> None:
    async with world.executor() as chassis:
        lease = freeze.lease = engine_of(chassis).lease
        run_id = await world.start(agent("a"))
        await freeze.connected.wait()
        beats, asked = lease._renewed, freeze.asked
        await lease._beat()
        assert lease._renewed > beats
        await eventually(lambda: freeze.asked > asked + 2, what="another look at the lease, and another")
        assert model.calls == []
        freeze.in_doubt = None
        detail = await world.until(run_id)
    assert detail.run.status is RunStatus.COMPLETED
    assert len(model.calls) == 1
    assert (detail.nodes or [])[0].attempt == 1, "to wait is no failure"


async def test_a_call_whose_run_was_taken_over_is_never_sent(model: FakeOpenAI, world: World, freeze: Freeze) -> None:
    freeze.beats = False
    async with world.executor() as frozen:
        freeze.lease = engine_of(frozen).lease
        first = freeze.lease.worker
        run_id = await world.start(agent("a"))
        await freeze.connected.wait()
        await world.end_leases()
        async with world.executor():
            assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
            assert len(model.calls) == 1
            freeze.beats = True
            await freeze.lease._beat()
            await eventually(lambda: engine_of(frozen).lease.worker != first, what="it noticed and registered anew")
            await eventually(lambda: not engine_of(frozen).owner._working, what="the call is dropped")
    assert len(model.calls) == 1
    rows = await world.rows("select attempt, document from sidecars where run_id = $1", run_id)
    assert [row["attempt"] for row in rows] == [2], "what was never sent is not accounted for"
