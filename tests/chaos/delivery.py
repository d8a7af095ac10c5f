"""Scenarios of what arrives over the bus: everything again ten times in any order, and messages nobody can read."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from nats.js import JetStreamContext, api
from nats.js.errors import APIError

from chassis.testing.eventually import eventually
from contracts.catalog import EVENTS
from contracts.streams import CONSUMERS
from tests.chaos.scenarios import COMPLETED, Load, Scenario
from tests.chaos.stage import Stage, buried
from tests.chaos.world import GATEWAYS
from tests.system.world import as_the_keeper

REPEATS = 10
OWNER_OF = {f"{event.entity}_{event.verb}".upper(): event.owner for event in EVENTS}
SETTLING = 40.0  # seconds: gaps are asked for after a while
FORGET = "truncate gateway.timeline, gateway.told_stories, gateway.parked_facts, gateway.feeds cascade"


@dataclass(frozen=True, slots=True)
class Sent:
    subject: str
    headers: dict[str, str]
    data: bytes


# duplicates and disorder ----------------------------------------------------------------------------------------------


async def delivered_again(stage: Stage, runs: int) -> None:
    """Every message of the stream ten times more, shuffled; then once more for a projector that has forgotten all."""
    async with Load(stage, least=runs):
        await eventually(lambda: len(stage.runs) >= runs, timeout=120, what="the load")
    await stage.settled()
    await stage.collect()
    state = await note_state(stage, "one delivery in order")
    async with as_the_keeper(stage.world) as js:
        everything = await read(js)
        async with stage.fault(f"deliver {len(everything)} messages {REPEATS} times more, shuffled"):
            await publish(stage, js, everything * REPEATS)
            await consumed(js)
        await note_state(stage, "ten more deliveries in any order", state)
        async with stage.fault(f"tell {len(everything)} facts, shuffled, to a projector that knows nothing"):
            stage.world.kill(*GATEWAYS)
            await stage.world.rows(FORGET)
            await publish(stage, js, everything * 2)
            await stage.world.revive(*GATEWAYS)
            await consumed(js)
        await note_state(stage, "a projection made anew from disorder", state)


async def read(js: JetStreamContext) -> list[Sent]:
    """What the stream holds; the same fact once, however often it was sent."""
    left = (await js.stream_info("EVENTS")).state.messages
    unacknowledged = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, inactive_threshold=30)
    subscription = await js.pull_subscribe("evt.>", stream="EVENTS", config=unacknowledged)
    found: dict[str, Sent] = {}
    while left > 0:
        messages = await subscription.fetch(min(left, 500), timeout=5)
        left -= len(messages)
        for message in messages:
            headers = dict(message.headers or {})
            found.setdefault(headers.get("ce-id", str(uuid4())), Sent(message.subject, headers, message.data))
    await subscription.unsubscribe()
    return list(found.values())


async def publish(stage: Stage, js: JetStreamContext, messages: Sequence[Sent]) -> None:
    """In any order, each under an id that the broker's own deduplication does not know."""
    shuffled = list(messages)
    stage.rng.shuffle(shuffled)
    for start in range(0, len(shuffled), 200):
        batch = shuffled[start : start + 200]
        fresh = [m.headers | {"Nats-Msg-Id": str(uuid4())} for m in batch]
        answers = [js.publish(m.subject, m.data, headers=h) for m, h in zip(batch, fresh, strict=True)]
        await asyncio.gather(*answers)


async def consumed(js: JetStreamContext, timeout: float = 60) -> None:
    async def all_of_it() -> bool:
        infos = [await js.consumer_info(spec.stream, spec.durable) for spec in CONSUMERS]
        return not any(info.num_pending or info.num_ack_pending for info in infos)

    await eventually(all_of_it, timeout=timeout, interval=0.1, what="consumers that have read everything")


async def note_state(stage: Stage, after: str, expected: str = "") -> str:
    """What the API shows, as a hash; given what is expected, it has some time to become that."""
    await stage.world.until_all_serve()
    deadline = asyncio.get_running_loop().time() + min(SETTLING, stage.ending)
    while (found := await state_of(stage)) != expected and expected:
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.3)
    stage.recorder.note("state", after=after, hash=found)
    return found


async def state_of(stage: Stage) -> str:
    """Each owner's story in its order, and each task. The order among stories is nobody's promise."""
    stories: defaultdict[str, list[str]] = defaultdict(list)
    for fact in await stage.facts():
        owner = OWNER_OF[fact["level"]]
        stories[f"{owner} {fact['task_id'] if owner == 'planner' else fact['run_id']}"].append(fact["id"])
    page = await stage.got("/tasks", limit=200, include_archived="true")
    tasks = {task["id"]: task["status"] for task in page["items"]}
    return hashlib.sha256(json.dumps([stories, tasks], sort_keys=True).encode()).hexdigest()


# poison ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Poison:
    """`letters` says who gives up on it. None of them is a fact that could be told."""

    name: str
    verb: str
    body: bytes
    headers: dict[str, str]
    letters: tuple[str, ...]

    @property
    def sent(self) -> Sent:
        return Sent(f"evt.default.executor.run.{self.verb}.{uuid4()}", self.headers, self.body)


def envelope(type: str, **changes: str) -> dict[str, str]:
    """Of a fact that counts as none: its sequence is 0."""
    required = {"ce-id": str(uuid4()), "ce-type": type, "ce-source": "executor", "ce-time": "2026-11-21T00:00:00+00:00"}
    return required | {"ce-subject": "nobody", "ce-sequence": "0", "Nats-Msg-Id": str(uuid4())} | changes


def poisons() -> list[Poison]:
    completed = "executor.run.completed"
    stranger = json.dumps({"company": "stranger", "run_id": str(uuid4()), "title": "Not yours"}).encode()
    both, gateway = ("gateway", "planner"), ("gateway",)
    return [
        Poison("no JSON", "completed", b'{"run_id": ', envelope(completed), both),
        Poison("no envelope", "completed", b"{}", {}, both),
        Poison("another schema", "completed", b'{"run_id": 17}', envelope(completed), both),
        Poison("another company", "completed", stranger, envelope(completed), both),
        Poison("an unknown type", "exploded", b"{}", envelope("executor.run.exploded"), gateway),
        Poison("no text", "failed", b"\xff\xfe\x00", envelope("executor.run.failed"), both),
        Poison("no time", "started", b"{}", envelope("executor.run.started", **{"ce-time": "tomorrow"}), both),
    ]


async def poisoned(stage: Stage, amount: int) -> None:
    """What nobody can read ends with the dead letters of everybody who was to read it; everything else goes on."""
    async with Load(stage, least=6), as_the_keeper(stage.world) as js:
        async with stage.fault(f"{amount} poison messages"):
            for n in range(amount):
                await send(stage, js, poisons()[n % len(poisons())])
        await refused_when_huge(js)
        for owner, count in stage.buried.items():
            total = stage.buried_before[owner] + count
            await eventually(
                lambda o=owner, t=total: is_buried(stage, o, t),
                timeout=60,
                interval=0.2,
                what=f"{total} letters of {owner}",
            )
        await replay_is_refused(stage)


async def send(stage: Stage, js: JetStreamContext, poison: Poison) -> None:
    sent = poison.sent
    await js.publish(sent.subject, sent.data, headers=sent.headers or None)
    for owner in poison.letters:
        stage.buried[owner] = stage.buried.get(owner, 0) + 1


async def refused_when_huge(js: JetStreamContext) -> None:
    """The stream itself refuses what no consumer could take in."""
    try:
        await js.publish(f"evt.default.executor.run.completed.{uuid4()}", b"x" * 200_000)
    except APIError:
        return
    raise AssertionError("a message of 200 kB was taken")


async def is_buried(stage: Stage, owner: str, total: int) -> bool:
    return await buried(stage.client, owner) >= total


async def replay_is_refused(stage: Stage) -> None:
    """A letter that is still wrong stays; whoever replays it is told why."""
    for owner in stage.buried:
        page = await stage.got(f"/admin/dead-letters/{owner}", limit=1)
        letter = page["items"][0]["id"]
        path = f"/admin/dead-letters/{owner}/{letter}/replay"
        status, answer = await stage.client.until_answered("POST", path)
        assert 400 <= status < 500, (status, answer)


SCENARIOS = (
    Scenario("F8", "every message ten times more, shuffled", delivered_again, (2, 8, 400), COMPLETED),
    Scenario("F14", "messages that nobody can read", poisoned, (14, 50, 5000), COMPLETED),
)
