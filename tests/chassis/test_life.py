"""The life of a service as a process: what it waits for, what it says, and that it always ends when told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from chassis import starting
from chassis.bus import Bus
from chassis.health import Health
from chassis.keeper import Keeper
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.starting import NotThere
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from chassis.watchdog import Watchdog, is_frozen
from tests.chassis.conftest import Start, nothing

SERVICE = """
import asyncio
from chassis.service import run
from chassis.settings import ServiceSettings

async def crash(stop):
    raise ZeroDivisionError("a loop that breaks")

async def work(job):
    pass

async def build(chassis):
    chassis.jobs.register("draft", work)
    if {crash}:
        chassis.background("fragile", crash)

run("planner", ServiceSettings, build)
"""
NOWHERE = "127.0.0.1:9"


@dataclass
class Process:
    child: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def listen(self) -> None:
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            self.said.append(line.decode())

    def says(self, words: str) -> bool:
        return any(words in line for line in self.said)

    async def told_to_end(self) -> int:
        """Its exit code."""
        self.child.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.child.wait(), 60)


@asynccontextmanager
async def process(*, crash: bool = False, **environment: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVICE.format(crash=crash),
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )
    made = Process(child)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        await listening


@pytest.fixture
def there(database: Database, nats_server: NatsServer, keeper: Keeper) -> dict[str, str]:
    return {"DATABASE_URL": database.url_for("planner"), "NATS_URL": nats_server.url("planner")}


@pytest.mark.parametrize(
    ("away", "waits_for"),
    [
        ({"DATABASE_URL": f"postgresql://u@{NOWHERE}/x"}, "service.database_gone"),
        ({"NATS_URL": f"nats://{NOWHERE}"}, "bus.error"),
    ],
)
async def test_a_service_that_waits_for_what_it_stands_on_says_so_and_ends_when_told(
    there: dict[str, str], away: dict[str, str], waits_for: str
) -> None:
    async with process(**(there | away)) as service:
        await eventually(lambda: service.says(waits_for))
        assert await service.told_to_end() == 0, "not by its patience"
    assert not service.says("Traceback")


async def test_a_service_started_before_the_broker_starts_with_it(
    there: dict[str, str], nats_server: NatsServer
) -> None:
    nats_server.kill()
    async with process(**there) as service:
        await eventually(lambda: service.says("bus.error"))
        nats_server.start()
        await eventually(lambda: service.says("service.started"))
        assert await service.told_to_end() == 0
    assert service.says("service.stopped")
    assert not service.says("Traceback")


async def test_a_service_told_to_end_while_the_broker_is_away_ends(
    there: dict[str, str], nats_server: NatsServer
) -> None:
    async with process(**there) as service:
        await eventually(lambda: service.says("service.started"))
        nats_server.kill()
        await eventually(lambda: service.says("bus.error"))
        assert await service.told_to_end() == 0
    assert service.says("service.stopped")


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.get(url)


async def test_health_is_served_where_the_settings_say_and_one_who_comes_second_says_so(
    there: dict[str, str], nats_server: NatsServer
) -> None:
    async with process(**there, HEALTH_PORT="0") as service:
        await eventually(lambda: service.says("health.served"))
        port = re.search(r"port=(\d+)", " ".join(service.said))
        assert port is not None
        url = f"http://127.0.0.1:{port[1]}"
        assert (await get(f"{url}/livez")).status_code == 200
        await eventually(lambda: _is_ready(url))
        assert "process_cpu_seconds_total" in (await get(f"{url}/metrics")).text
        assert (await get(f"{url}/other")).status_code == 404
        async with process(**there, HEALTH_PORT=port[1]) as second:
            code = await asyncio.wait_for(second.child.wait(), 60)
        assert (code, len(second.said)) == (78, 1), second.said
        assert f"HEALTH_PORT: cannot listen on 127.0.0.1:{port[1]}" in second.said[0]
        nats_server.kill()
        await eventually(lambda: _is_not_ready(url, "nats"))
        nats_server.start()
        assert await service.told_to_end() == 0


async def test_a_server_of_health_that_ends_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr("uvicorn.Server._serve", ends)
    health = Health(lambda: 0.0)
    health.listen("127.0.0.1", 0)
    assert health.listening is not None
    with health.listening, pytest.raises(RuntimeError, match="ended by itself"):
        await asyncio.wait_for(health.serve(asyncio.Event()), 60)


async def _is_ready(url: str) -> bool:
    return (await get(f"{url}/readyz")).status_code == 200


async def _is_not_ready(url: str, why: str) -> bool:
    answer = await get(f"{url}/readyz")
    return answer.status_code == 503 and why in answer.text


async def test_health_may_be_asked_from_outside_when_the_settings_say_so(there: dict[str, str]) -> None:
    async with process(**there, HEALTH_PORT="0", HEALTH_HOST="0.0.0.0") as service:
        await eventually(lambda: service.says("host=0.0.0.0"))
        assert await service.told_to_end() == 0


async def test_a_database_that_refuses_is_one_line_and_exit_code_78(there: dict[str, str]) -> None:
    user, rest = there["DATABASE_URL"].split("://", 1)[1].split(":", 1)
    unknown = there["DATABASE_URL"].rsplit("/", 1)[0] + "/nothing_here"
    wrong = f"postgresql://{user}:wrong@{rest.split('@', 1)[1]}"
    for url in (unknown, wrong, "mysql://x"):
        async with process(**(there | {"DATABASE_URL": url})) as service:
            code = await asyncio.wait_for(service.child.wait(), 60)
        assert (code, len(service.said)) == (78, 1), service.said
        assert "DATABASE_URL" in service.said[0]


async def test_what_stays_away_is_one_line_in_the_end(there: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.starting.PATIENCE", 0.2)
    for away, named in (
        ({"database_url": f"postgresql://u@{NOWHERE}/x"}, "DATABASE_URL"),
        ({"nats_url": f"nats://{NOWHERE}"}, "NATS_URL"),
    ):
        given = {"nats_url": there["NATS_URL"], "database_url": there["DATABASE_URL"]} | away
        with pytest.raises(NotThere, match=named):
            async with running("planner", ServiceSettings(**given), nothing):  # type: ignore[arg-type]
                pass


async def test_who_waits_for_the_broker_ends_though_nats_py_loses_a_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canceled: list[None] = []

    async def connect(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            canceled.append(None)
            raise ConnectionRefusedError if len(canceled) == 1 else asyncio.CancelledError from None

    monkeypatch.setattr("nats.aio.client.Client._connect_to_server", connect)
    monkeypatch.setattr(starting, "PATIENCE", 0.01)
    with pytest.raises(NotThere):
        async with asyncio.timeout(60):
            await starting.connection(Bus("planner", f"nats://{NOWHERE}", None))  # type: ignore[arg-type]
    assert canceled, "it was lost"


async def test_a_loop_that_breaks_ends_the_process_with_70(there: dict[str, str]) -> None:
    async with process(crash=True, **there) as service:
        assert await asyncio.wait_for(service.child.wait(), 60) == 70
    assert service.says("service.loop_broke")


async def test_a_hook_that_fails_or_hangs_on_drain_stops_neither_the_others_nor_the_end(start: Start) -> None:
    done: list[str] = []

    async def build(chassis: Chassis) -> None:
        async def fail() -> None:
            raise ZeroDivisionError

        async def hang() -> None:
            await asyncio.Event().wait()

        async def finish() -> None:
            assert chassis.bus.connected
            assert await chassis.pool.fetchval("select 1") == 1
            done.append("finished")

        for hook in (fail, hang, finish):
            chassis.on_drain(hook)

    async with start("planner", build):
        pass
    assert done == ["finished"]


async def test_what_answers_stand_on_is_closed_when_nobody_can_ask_any_more(start: Start) -> None:
    done: list[str] = []

    async def build(chassis: Chassis) -> None:
        async def drain() -> None:
            done.append("drained")

        async def fail() -> None:
            raise ZeroDivisionError

        async def close() -> None:
            assert not chassis.bus.connected
            assert await chassis.pool.fetchval("select 1") == 1
            done.append("closed")

        for hook in (fail, close):
            chassis.on_close(hook)
        chassis.on_drain(drain)

    async with start("planner", build):
        pass
    assert done == ["drained", "closed"]


async def test_a_connection_closed_for_good_ends_the_process(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    async with start("planner", nothing) as chassis:
        await chassis.bus.nc.close()
        await eventually(lambda: 70 in exits)


async def test_what_a_service_waited_for_before_it_was_up_is_no_delay_of_its_loop() -> None:
    """A database that takes its time to come is no reason for whoever asks /livez to kill the process."""
    watchdog = Watchdog()
    watchdog._ticked -= 3600.0
    watching = asyncio.create_task(watchdog.run(asyncio.Event()))
    await asyncio.sleep(0)
    assert watchdog.age < 3600.0
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("freeze", ["time.sleep(60)", "while True: pass"])
async def test_a_loop_that_freezes_is_ended_by_the_watchdog_which_says_where(freeze: str) -> None:
    frozen = f"""
import asyncio, time
from chassis.watchdog import Watchdog

async def main():
    watching = asyncio.create_task(Watchdog(limit=0.2).run(asyncio.Event()))
    await asyncio.sleep(0.1)
    {freeze}

asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", frozen, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 70
    assert b"froze" in said
    assert b"in main" in said


@pytest.mark.parametrize(
    ("age", "lately", "since_tick", "frozen"),
    [
        (9, 0.0, 0.0, False),
        (11, 0.0, 0.1, True),  # it sleeps, or waits for a lock
        (11, 0.01, 0.1, True),  # it polls
        (11, 1.0, 11.0, True),  # it computes
        (11, 0.1, 1.1, False),  # it would go on, if it had a processor of its own
        (120, 0.1, 11.0, True),
    ],
)
def test_a_loop_that_waits_for_a_processor_is_not_frozen(
    age: float, lately: float, since_tick: float, frozen: bool
) -> None:
    assert is_frozen(age, lately, since_tick, limit=10.0) is frozen
