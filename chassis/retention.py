"""What is old goes: in small steps, by one process per service at a time, without anybody waiting for it.

A rule says which rows of one table are old; a service adds rules of its own and may spare rows that are still in use.
The lock and the steps share a connection: who loses the lock deletes nothing more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from prometheus_client import Counter

from chassis.blobs import PASSING, STAGED, Blobs
from chassis.outage import Outage
from chassis.pausing import happens_within
from chassis.postgres import CONNECTION_LOST, Connection, affected, server_is_away
from chassis.settings import MESSAGES_LIVE_DAYS, ServiceSettings
from contracts.errors import RetryLater

log = structlog.get_logger(__name__)

PRUNED = Counter("retention_pruned_total", "Rows that were deleted because of their age", ["rule"])

DAY = 86_400.0
PASSING_KEPT = 3600.0  # seconds; nobody waits for an answer for so long
STEP = 500  # rows per statement
PAUSE = 0.1  # seconds between steps
FIRST = (
    300.0  # after the start, so that messages which wait for this service are recognised before their inbox row goes
)

LOCK = "select pg_try_advisory_lock(hashtext($1))"

Connect = Callable[[], Awaitable[Connection]]


class Rule(Protocol):
    @property
    def name(self) -> str: ...

    async def step(self, connection: Connection, most: int) -> int:
        """Delete up to `most` of what is old, in one transaction; returns how many that were."""
        ...


@dataclass(frozen=True, slots=True)
class OldRows:
    """Rows of a table whose `age` column is further back than `keep` seconds, unless they are in use."""

    table: str
    key: tuple[str, ...]
    age: str
    keep: float
    in_use: tuple[str, ...] = ()  # conditions in SQL; a row that meets one stays

    @property
    def name(self) -> str:
        return self.table

    async def step(self, connection: Connection, most: int) -> int:
        key = ", ".join(self.key)
        same = " and ".join(f"{self.table}.{column} = old.{column}" for column in self.key)
        spared = "".join(f" and not ({condition})" for condition in self.in_use)
        statement = f"""
            with old as materialized (
                select {key} from {self.table}
                where {self.age} < clock_timestamp() - make_interval(secs => $1){spared}
                limit $2 for update skip locked)
            delete from {self.table} using old where {same}
        """
        return affected(await connection.execute(statement, self.keep, most))


@dataclass(frozen=True, slots=True)
class OldObjects:
    """What was stored below a prefix for a moment only; who stores the same bytes again makes it young again."""

    blobs: Blobs
    prefix: str
    keep: float

    @property
    def name(self) -> str:
        return f"objects {self.prefix}"

    async def step(self, _: Connection, most: int) -> int:
        keys = await self.blobs.older_than(self.keep, f"{self.prefix}/", most)
        for key in keys:
            await self.blobs.delete(key, unless_younger_than=self.keep)
        return len(keys)


def objects_of_every_service(blobs: Blobs, settings: ServiceSettings) -> tuple[OldObjects, ...]:
    """A fact's body is needed as long as its message may come, and then as long as somebody may replay its dead letter."""
    staged = (MESSAGES_LIVE_DAYS + settings.retention_dead_letters_days) * DAY
    return OldObjects(blobs, PASSING, PASSING_KEPT), OldObjects(blobs, STAGED, staged)


def rules_of_every_service(settings: ServiceSettings) -> Iterator[OldRows]:
    """What the chassis itself writes. Published outbox rows go by the keeper's floor (`chassis.relay`); the counters of
    stories stay, because a story that speaks again must go on counting."""
    inbox, commands = settings.retention_inbox_days * DAY, settings.retention_commands_days * DAY
    jobs = max(settings.retention_jobs_days * DAY, commands)  # an order that is repeated asks for its job
    letters = settings.retention_dead_letters_days * DAY
    yield OldRows("inbox", ("consumer", "message_id"), "handled_at", inbox)
    yield OldRows("inbox_attempts", ("consumer", "message_id"), "updated_at", inbox)
    yield OldRows("commands", ("command_id",), "created_at", commands)
    yield OldRows("jobs", ("id",), "ended_at", jobs)
    yield OldRows("dead_letters", ("id",), "created_at", letters)


class Retention:
    """Rules are added and rows spared before `run`."""

    def __init__(self, service: str, connect: Connect, settings: ServiceSettings) -> None:
        self._service = service
        self._connect = connect
        self._every = settings.retention_every_s
        self._tables = {rule.table: rule for rule in rules_of_every_service(settings)}
        self._rules: list[Rule] = []
        self._database = Outage("retention.database")

    def add(self, *rules: Rule) -> None:
        self._rules.extend(rules)

    def spare(self, table: str, in_use: str) -> None:
        """Keep rows of a table of the chassis that meet this condition, however old they are."""
        rule = self._tables[table]
        self._tables[table] = replace(rule, in_use=(*rule.in_use, in_use))

    async def run(self, stop: asyncio.Event) -> None:
        pause = min(FIRST, self._every)
        while not await happens_within(pause * random.uniform(0.8, 1.2), stop):
            try:
                await self.prune(stop)
                self._database.over()
            except CONNECTION_LOST as error:
                self._database.noticed(error)
            pause = self._every

    async def prune(self, stop: asyncio.Event) -> dict[str, int]:
        """One pass over all rules; what went, by rule. Empty when another process is at it."""
        connection = await self._connect()
        try:
            if not await connection.fetchval(LOCK, f"{self._service}.retention"):
                return {}
            await connection.execute("set lock_timeout = '1s'")
            return {rule.name: await self._follow(rule, connection, stop) for rule in self._all()}
        finally:
            await asyncio.shield(_closed(connection))

    def _all(self) -> Sequence[Rule]:
        return [*self._tables.values(), *self._rules]

    async def _follow(self, rule: Rule, connection: Connection, stop: asyncio.Event) -> int:
        """A rule that fails is no reason to keep what the others delete."""
        gone = 0
        with _complaints(rule):
            while rows := await rule.step(connection, STEP):
                gone += rows
                PRUNED.labels(rule.name).inc(rows)
                if await happens_within(PAUSE, stop):
                    break
        if gone:
            log.info("retention.pruned", rule=rule.name, rows=gone)
        return gone


@contextmanager
def _complaints(rule: Rule) -> Iterator[None]:
    try:
        yield
    except RetryLater as later:
        log.warning("retention.put_off", rule=rule.name, reason=str(later))
    except Exception as error:
        if server_is_away(error):
            raise
        log.exception("retention.rule_failed", rule=rule.name)


async def _closed(connection: Connection) -> None:
    try:
        await connection.close(timeout=2.0)
    except (TimeoutError, *CONNECTION_LOST):
        connection.terminate()
