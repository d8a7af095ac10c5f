"""The keeper: sole holder of the bus's admin credentials. Applies streams and consumers, re-applies them when they are
gone, purges what every durable consumer has passed, and publishes that floor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from chassis.nats_address import NatsAddress
from chassis.outage import Outage
from chassis.pausing import happens_within
from chassis.repair import FLOORS
from contracts import subjects
from contracts.story import Floor
from contracts.streams import CONSUMERS, STREAMS, ConsumerSpec, StreamSpec

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0  # seconds between checks that everything is there
FLOOR_EVERY = 5.0
NANOSECONDS = 10**9


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on the server that is not as defined."""

    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


def stream_config(spec: StreamSpec, replicas: int) -> api.StreamConfig:
    return api.StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=spec.max_bytes,
        max_msg_size=spec.max_msg_size,
        duplicate_window=spec.duplicate_window,
        num_replicas=replicas,
    )


def consumer_config(spec: ConsumerSpec) -> api.ConsumerConfig:
    return api.ConsumerConfig(
        durable_name=spec.durable,
        filter_subjects=list(spec.filter_subjects) if len(spec.filter_subjects) > 1 else None,
        filter_subject=spec.filter_subjects[0] if len(spec.filter_subjects) == 1 else None,
        deliver_policy=api.DeliverPolicy.ALL,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=spec.ack_wait,
        max_deliver=-1,
        max_ack_pending=spec.max_ack_pending,
    )


class Keeper:
    """`apply` once before services start, then `run` until told to stop."""

    def __init__(self, url: str, *, replicas: int = 1) -> None:
        self._url = url
        self._replicas = replicas
        self._nc: Client | None = None
        self._bus = Outage("keeper.bus")

    async def connect(self) -> JetStreamContext:
        if self._nc is None or self._nc.is_closed:  # some answers of a server close it for good
            address = NatsAddress.of(self._url)
            self._nc = await nats.connect(
                address.servers,
                **address.login,
                name="keeper",
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]
                connect_timeout=3,
                error_cb=self._on_error,
            )
        return self._nc.jetstream(timeout=5)

    async def _on_error(self, error: Exception) -> None:
        self._bus.noticed(error)

    async def apply(self) -> list[str]:
        """Create or update every stream and consumer. Returns what was created or changed."""
        js = await self.connect()
        changed = [name for spec in STREAMS if (name := await self._apply_stream(js, spec))]
        changed += [name for consumer in CONSUMERS if (name := await self._apply_consumer(js, consumer))]
        return changed

    async def _apply_stream(self, js: JetStreamContext, spec: StreamSpec) -> str | None:
        config = stream_config(spec, self._replicas)
        try:
            info = await js.stream_info(spec.name)
        except NotFoundError:
            await js.add_stream(config)
            return f"stream {spec.name} created"
        if not _stream_differences(info.config, config):
            return None
        await js.update_stream(config)
        return f"stream {spec.name} updated"

    async def _apply_consumer(self, js: JetStreamContext, spec: ConsumerSpec) -> str | None:
        config = consumer_config(spec)
        try:
            info = await js.consumer_info(spec.stream, spec.durable)
        except NotFoundError:
            await js.add_consumer(spec.stream, config)
            return f"consumer {spec.durable} created"
        if not _consumer_differences(info.config, config):
            return None
        await js.add_consumer(spec.stream, config)  # an upsert
        return f"consumer {spec.durable} updated"

    async def verify(self) -> list[Difference]:
        """What is missing or different, without changing anything."""
        js, found = await self.connect(), []
        for spec in STREAMS:
            try:
                info = await js.stream_info(spec.name)
                found += _stream_differences(info.config, stream_config(spec, self._replicas))
            except NotFoundError:
                found.append(Difference(f"stream {spec.name}", "to exist", "nothing"))
        for consumer in CONSUMERS:
            try:
                state = await js.consumer_info(consumer.stream, consumer.durable)
                found += _consumer_differences(state.config, consumer_config(consumer))
            except NotFoundError:
                found.append(Difference(f"consumer {consumer.durable}", "to exist", "nothing"))
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Keep things as defined: a stream deleted under a live server is back within seconds."""
        next_floor = 0.0
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            try:
                if changed := await self.apply():
                    log.warning("keeper.applied", changed=changed)
                if loop.time() >= next_floor:
                    await self.purge_and_publish()
                    next_floor = loop.time() + FLOOR_EVERY
                self._bus.over()
            except APIError as error:
                log.warning("keeper.refused", error=str(error))
            except (TimeoutError, NatsError, OSError) as error:
                self._bus.noticed(error)
            except Exception:  # without a keeper nothing is purged, and nothing that is gone comes back
                log.exception("keeper.round_failed")
            await happens_within(LOOK_EVERY, stop)

    async def purge_and_publish(self) -> list[Floor]:
        """Purge beyond the soft limits what all have passed, and tell everybody how far that is."""
        js = await self.connect()
        floors = []
        for spec in STREAMS:
            info = await js.stream_info(spec.name)
            passed = await self._passed(js, spec, info.state.last_seq)
            await self._purge(js, spec, info.state, passed)
            floors.append(Floor(stream=spec.name, created=_utc(info.created), sequence=passed))
        assert self._nc is not None
        await self._nc.publish(subjects.signal("keeper", "floor"), FLOORS.dump_json(floors))
        return floors

    async def _passed(self, js: JetStreamContext, spec: StreamSpec, last: int) -> int:
        """The sequence below which no durable consumer has work left. Without consumers that is the end."""
        floor = last
        for consumer in CONSUMERS:
            if consumer.stream == spec.name:
                info = await js.consumer_info(spec.name, consumer.durable)
                if info.num_pending or info.num_ack_pending:
                    floor = min(floor, info.ack_floor.stream_seq if info.ack_floor else 0)
        return floor

    async def _purge(self, js: JetStreamContext, spec: StreamSpec, state: api.StreamState, passed: int) -> None:
        if state.messages == 0 or passed < state.first_seq:
            return
        too_large = state.bytes > spec.soft_bytes
        first = await js.get_msg(spec.name, seq=state.first_seq) if not too_large else None
        too_old = first is not None and first.time is not None and _age(first.time) > timedelta(seconds=spec.soft_age)
        if too_large or too_old:
            share = spec.soft_bytes / state.bytes if too_large else 1.0
            keep = max(state.last_seq - int(state.messages * share * 0.9), state.first_seq) if too_large else None
            until = min(passed, keep) if keep is not None else min(passed, await self._first_young(js, spec, state))
            await js.purge_stream(spec.name, seq=until + 1)
            log.info("keeper.purged", stream=spec.name, until=until)

    async def _first_young(self, js: JetStreamContext, spec: StreamSpec, state: api.StreamState) -> int:
        """The last sequence older than the soft age, by bisection over the stream."""
        low, high = state.first_seq, state.last_seq
        while low < high:
            middle = (low + high + 1) // 2
            message = await js.get_msg(spec.name, seq=middle)
            old = message.time is not None and _age(message.time) > timedelta(seconds=spec.soft_age)
            low, high = (middle, high) if old else (low, middle - 1)
        return low

    async def close(self) -> None:
        if self._nc is not None and not self._nc.is_closed:
            await self._nc.close()
        self._nc = None


def _differences(what: str, pairs: dict[str, tuple[Any, Any]]) -> list[Difference]:
    return [Difference(f"{what} {key}", str(want), str(got)) for key, (want, got) in pairs.items() if want != got]


def _stream_differences(found: api.StreamConfig, wanted: api.StreamConfig) -> list[Difference]:
    keys = ("subjects", "retention", "storage", "discard", "max_bytes", "max_msg_size", "num_replicas")
    pairs = {k: (_plain(getattr(wanted, k)), _plain(getattr(found, k))) for k in keys}
    pairs["duplicate_window"] = (float(wanted.duplicate_window or 0), float(found.duplicate_window or 0))
    return _differences(f"stream {wanted.name}", pairs)


def _consumer_differences(found: api.ConsumerConfig, wanted: api.ConsumerConfig) -> list[Difference]:
    keys = ("filter_subject", "ack_policy", "max_deliver", "max_ack_pending")
    pairs = {k: (_plain(getattr(wanted, k)), _plain(getattr(found, k))) for k in keys}
    pairs["filter_subjects"] = (sorted(wanted.filter_subjects or []), sorted(found.filter_subjects or []))
    pairs["ack_wait"] = (float(wanted.ack_wait or 0), float(found.ack_wait or 0))
    return _differences(f"consumer {wanted.durable_name}", pairs)


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _utc(value: Any) -> datetime:
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _age(at: Any) -> timedelta:
    return datetime.now(UTC) - _utc(at)
