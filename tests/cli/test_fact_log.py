"""What `up` shows of runs: short lines off the real bus, never more than can be read, and JSON for machines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import nats
import pytest

from chassis.keeper import Keeper
from chassis.testing.eventually import eventually
from chassis.testing.servers import NatsServer
from contracts.envelope import Envelope
from contracts.executor import Usage
from contracts.message import Event
from contracts.permissions import CLI
from contracts.run_facts import NodeCompleted, NodeRetried, NodeStarted, RunCompleted, RunFact, RunStarted
from deploy.local.console import json_line
from fluidcrew.fact_log import MOST_PER_SECOND, FactLog

pytestmark = pytest.mark.asyncio

RUN = UUID("3f2a91c0-5b1d-4c3e-9a77-0c6f2b1d8e90")
START = datetime.now(UTC)
Lines = list[tuple[str, str]]  # source, line
Following = Callable[..., AbstractAsyncContextManager[Lines]]


@pytest.fixture
async def streams(nats_server: NatsServer) -> AsyncIterator[None]:
    keeper = Keeper(nats_server.url())
    await keeper.apply()
    yield
    await keeper.close()


@pytest.fixture
def following(nats_server: NatsServer, streams: None) -> Following:
    @asynccontextmanager
    async def follow(*, as_json: bool = False) -> AsyncIterator[Lines]:
        lines: Lines = []
        log = FactLog(lambda source, line: lines.append((source, line)), as_json=as_json)
        reading = asyncio.create_task(log.follow(nats_server.url(CLI), START - timedelta(minutes=1)))
        try:
            yield lines
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    return follow


async def tell(server: NatsServer, *facts: tuple[Event, float]) -> None:
    """Each so many seconds after the start."""
    nc = await nats.connect(server.url("executor"), inbox_prefix=b"_INBOX_executor")
    for fact, seconds in facts:
        envelope = Envelope.of(fact, id=uuid4(), source="executor")
        headers = envelope.headers() | {"ce-time": (START + timedelta(seconds=seconds)).isoformat()}
        await nc.jetstream().publish(fact.subject, fact.model_dump_json().encode(), headers=headers)
    await nc.close()


def about(kind: type[RunFact], **more: object) -> Event:
    return kind.model_validate({"run_id": RUN, "title": "A study", **more})


NODE = {"run_id": RUN, "node_id": uuid4(), "key": "brief", "attempt": 1}
USAGE = Usage(prompt_tokens=1000, completion_tokens=240, requests=1, cost_usd="0.0031")


async def test_a_run_is_told_in_short_lines_with_what_it_took(nats_server: NatsServer, following: Following) -> None:
    done = NodeCompleted(**NODE, checksum=None, output_preview="a b", model="m-1", usage=USAGE, duration_ms=3200)
    due = START + timedelta(seconds=2)
    async with following() as lines:
        await tell(
            nats_server,
            (about(RunStarted), 0),
            (NodeStarted(**NODE, title="The brief", role="writer"), 0.5),
            (NodeRetried(**NODE, error="503: overloaded", due_at=due), 1),
            (done, 4.5),
            (about(RunCompleted, nodes_completed=1, nodes_skipped=0, cost_usd="0.0031", tokens=1240), 5),
        )
        await eventually(lambda: len(lines) == 5)
    assert {source for source, _ in lines} == {"facts"}
    assert [line.partition(" ")[2] for _, line in lines] == [
        "run.started        3f2a91c0 A study",
        "node.started       3f2a91c0 brief  The brief · writer",
        "node.retried       3f2a91c0 brief  attempt 1 · 503: overloaded · next try in 1.0 s",
        "node.completed     3f2a91c0 brief  3.2 s · 1,240 tokens · $0.0031",
        "run.completed      3f2a91c0 A study  1 node · 5.0 s · 1,240 tokens · $0.0031",
    ]


async def test_more_than_can_be_read_is_counted(nats_server: NatsServer, following: Following) -> None:
    total = MOST_PER_SECOND + 7
    facts = [(NodeStarted(**NODE | {"key": f"n{n}"}, title="x"), 0.0) for n in range(total)]
    await tell(nats_server, *facts)
    async with following() as lines:
        counted = await eventually(lambda: [line for _, line in lines if "more in this second" in line])
    shown = sum("node.started" in line for _, line in lines)
    assert shown == MOST_PER_SECOND
    assert counted == ["… and 7 more in this second; `fluidcrew tail` shows all"]


async def test_in_json_every_fact_is_an_object_like_the_services_own(
    nats_server: NatsServer, following: Following
) -> None:
    async with following(as_json=True) as lines:
        await tell(nats_server, (about(RunStarted, company="acme"), 0))
        await eventually(lambda: lines)
    record = json.loads(json_line(*lines[0]))
    assert record | {"timestamp": ""} == {
        "source": "facts",
        "timestamp": "",
        "level": "info",
        "service": "executor",
        "event": "run.started",
        "company": "acme",
        "story": str(RUN),
        "run_id": str(RUN),
        "task_id": None,
        "title": "A study",
        "activation": 0,
    }


async def test_a_bus_that_does_not_let_us_listen_is_said_and_ends_nothing(nats_server: NatsServer) -> None:
    lines: Lines = []
    await FactLog(lambda *line: lines.append(line), as_json=False).follow("nats://cli:wrong@127.0.0.1:9", START)
    ((source, line),) = lines
    assert source == "stack"
    assert line.startswith("warning: what runs do is not shown here (no bus answers at nats://127.0.0.1:9")
