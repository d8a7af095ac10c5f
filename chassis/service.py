"""The life of a service: pool, bus, relay, what it does, drain on SIGTERM.

run("planner", PlannerSettings, build)      a process of its own
async with running(...) as chassis:         inside another's loop (the gateway's FastAPI, tests)
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from chassis import garbage, logs, starting, telemetry
from chassis.blobs import Blobs
from chassis.bus import Bus
from chassis.consumer import Consumer
from chassis.dead_letters import DeadLetters
from chassis.health import Health
from chassis.jobs import Jobs
from chassis.owner_requests import release, serve_owner_requests
from chassis.postgres import Connection, Pool, connect
from chassis.relay import Relay
from chassis.retention import Retention, objects_of_every_service
from chassis.settings import BadSettings, ServiceSettings
from chassis.unit_of_work import UnitOfWork
from chassis.watchdog import Watchdog

log = structlog.get_logger(__name__)

Background = Callable[[asyncio.Event], Awaitable[None]]


@dataclass(slots=True)
class Chassis:
    """What a service's `build` gets to stand on."""

    name: str
    settings: Any
    pool: Pool
    bus: Bus
    uow: UnitOfWork
    jobs: Jobs
    blobs: Blobs
    relay: Relay
    dead_letters: DeadLetters
    health: Health
    retention: Retention
    _background: dict[str, Background] = field(default_factory=dict)
    _drains: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _closes: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def background(self, name: str, run: Background) -> None:
        """A task that lives from after the bus has started until the stop event. Its crash ends the process."""
        self._background[name] = run

    def on_drain(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Called when the service shall stop, while the bus and the database still work."""
        self._drains.append(hook)

    def on_close(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Called when the bus has stopped and nobody asks any more: for what answers stand on."""
        self._closes.append(hook)


Build = Callable[[Chassis], Awaitable[None]]


async def _assemble(name: str, settings: ServiceSettings, watchdog: Watchdog) -> Chassis:
    health = Health(lambda: watchdog.age)
    if settings.health_port is not None:
        health.listen(settings.health_host, settings.health_port)
    pool = await starting.database(name, settings)
    blobs = Blobs(settings)
    bus = Bus(name, settings.nats_url.get_secret_value(), blobs, graceful_timeout=settings.drain_timeout)
    await starting.connection(bus)
    relay = Relay(name, bus.nc, pool)
    bus.on_reconnect.append(relay.nudge)

    async def database() -> None:
        await pool.fetchval("select 1")

    async def connection() -> None:
        if not bus.connected:
            raise ConnectionError("NATS is not connected")

    health.add("postgres", database)
    health.add("nats", connection)
    uow = UnitOfWork(name, pool, relay, blobs)
    letters, retention = DeadLetters(name, pool, relay), _retention(name, settings)
    retention.add(*objects_of_every_service(blobs, settings))
    return Chassis(name, settings, pool, bus, uow, Jobs(pool), blobs, relay, letters, health, retention)


def _retention(name: str, settings: ServiceSettings) -> Retention:
    async def connection() -> Connection:
        return await connect(settings.database_url.get_secret_value(), name, statement_timeout="30s")

    return Retention(name, connection, settings)


def _consumers(chassis: Chassis) -> list[Consumer]:
    made = []
    for spec, handlers in chassis.bus.consumers:
        consumer = Consumer(spec, handlers, chassis.bus, chassis.pool, chassis.blobs, chassis.dead_letters)

        async def replay(subject: str, headers: Any, data: bytes, consumer: Consumer = consumer) -> None:
            envelope, body = await consumer.opened(headers, data)
            await consumer.handle(subject, envelope, body)

        chassis.dead_letters.replayers[spec.durable] = replay
        made.append(consumer)
    return made


@asynccontextmanager
async def running(name: str, settings: ServiceSettings, build: Build) -> AsyncIterator[Chassis]:
    """A service at work. On leaving it drains: hooks, consumers, jobs, relay, bus, pool, in that order."""
    telemetry.setup_sentry(name, settings)
    telemetry.setup_tracing(name, release(), settings)
    watchdog, stop, stop_watchdog = Watchdog(), asyncio.Event(), asyncio.Event()
    chassis = await _assemble(name, settings, watchdog)
    await build(chassis)
    serve_owner_requests(chassis)

    async def hear_floor(body: bytes) -> None:
        chassis.relay.repair.hear_floor(body)

    chassis.bus.on_signal("keeper", "floor", hear_floor)
    consumers = _consumers(chassis)
    await chassis.relay.start()
    await chassis.bus.start()
    tasks = [asyncio.create_task(watchdog.run(stop_watchdog), name="watchdog")]
    stop_relay = asyncio.Event()
    relaying = asyncio.create_task(chassis.relay.run(stop_relay), name="relay")
    loops: dict[str, Background] = {f"consumer.{i}": c.run for i, c in enumerate(consumers)}
    loops |= {"jobs": chassis.jobs.run, "retention": chassis.retention.run, **chassis._background}
    if chassis.health.listening is not None:
        loops["health"] = chassis.health.serve
    tasks += [asyncio.create_task(_vital(loop(stop), key), name=key) for key, loop in loops.items()]
    log.info("service.started", version=release())
    try:
        yield chassis
    finally:
        chassis.health.draining = True
        await _call(chassis._drains, settings.drain_timeout)
        stop.set()
        await asyncio.wait(tasks[1:], timeout=settings.drain_timeout)
        await chassis.relay.flush()
        stop_relay.set()
        stop_watchdog.set()
        await asyncio.wait([relaying], timeout=2.0)
        for task in (*tasks, relaying):
            task.cancel()
        await asyncio.wait([*tasks, relaying], timeout=2.0)  # they give back what they hold while the bus is there
        await chassis.bus.stop()
        await _call(chassis._closes, settings.drain_timeout)
        await chassis.blobs.aclose()
        async with asyncio.timeout(5.0):
            await _close(chassis.pool)
        telemetry.flush_tracing()
        log.info("service.stopped")


async def _call(hooks: Sequence[Callable[[], Awaitable[None]]], timeout: float) -> None:
    """A hook that fails or hangs must not keep the others, nor the process, from ending."""
    for hook in hooks:
        try:
            async with asyncio.timeout(timeout):
                await hook()
        except Exception:
            log.exception("service.hook_failed")


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(3.0):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _vital(loop: Awaitable[None], name: str) -> None:
    """A loop the service cannot do without: when it breaks, the process ends and is started anew."""
    try:
        await loop
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.exception("service.loop_broke", loop=name)
        telemetry.report(error, loop=name)
        telemetry.flush_tracing()
        os._exit(70)


async def _serve_until_told(name: str, settings: ServiceSettings, build: Build) -> None:
    stop, started = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def serve() -> None:
        async with running(name, settings, build):
            garbage.spare_what_is_there()
            started.set()
            await stop.wait()

    serving, told = asyncio.create_task(serve()), asyncio.create_task(stop.wait())
    await asyncio.wait([serving, told], return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set() and serving.cancel():  # it may wait long for what it stands on
        await asyncio.wait([serving])
        return
    await serving


def load(name: str, settings: type[ServiceSettings]) -> ServiceSettings:
    """The settings, or an exit with one line that names the variable."""
    try:
        loaded: ServiceSettings = settings.load()
    except BadSettings as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(78) from None
    logs.configure(name, format=loaded.log_format, level=loaded.log_level)
    return loaded


def run(name: str, settings: type[ServiceSettings], build: Build) -> None:
    """The whole of a service's `__main__`. Exit codes: 0 drained, 69 it stood on nothing, 70 broke, 78 wrong settings."""
    import uvloop

    try:
        uvloop.run(_serve_until_told(name, load(name, settings), build))
    except (BadSettings, starting.NotThere) as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(78 if isinstance(error, BadSettings) else 69) from None
