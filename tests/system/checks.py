"""What must hold of every run and of the whole feed, whatever happened on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import Call
from tests.system.api import Api, Json, Watcher, levels
from tests.system.defaults import CONCURRENCY
from tests.system.ledger import Ledger, Plan
from tests.system.world import World

TOLD = "select owner, story, array_agg(sequence order by position) as told from gateway.timeline group by owner, story"
LAST = "select story, sequence from {owner}.stories"


async def nothing_finished_was_repeated(ledger: Ledger, plan: Plan, told: Sequence[Json], kills: int = 0) -> None:
    """`kills` of executors: each may cost what was in flight then, and nothing else."""
    calls = await ledger.by_node(plan)
    no_late_calls(plan, calls, told)
    total = sum(len(of_node) for of_node in calls.values())
    assert total <= len(plan.keys) + kills * CONCURRENCY, {key: len(of_node) for key, of_node in calls.items()}


def no_late_calls(plan: Plan, calls: Mapping[str, Sequence[Call]], told: Sequence[Json]) -> None:
    assert set(calls) == set(plan.keys)
    for key, at in completions(told).items():
        late = [call for call in calls[key] if call.at > at]
        assert not late, f"{key} was called again {late[0].at - at:.3f} s after it had completed"


def each_node_completed_once(plan: Plan, told: Sequence[Json]) -> None:
    done = Counter(json.loads(e["message"])["key"] for e in told if e["level"] == "NODE_COMPLETED")
    assert done == Counter(plan.keys)
    counts = Counter(levels(told))
    assert (counts["RUN_QUEUED"], counts["RUN_STARTED"], counts["RUN_COMPLETED"]) == (1, 1, 1)


def completions(told: Sequence[Json]) -> dict[str, float]:
    """When each node's completion was committed, on this machine's only clock."""
    done = [e for e in told if e["level"] == "NODE_COMPLETED"]
    return {json.loads(e["message"])["key"]: datetime.fromisoformat(e["timestamp"]).timestamp() for e in done}


async def the_watcher_saw_it_all(watcher: Watcher, told: Sequence[Json]) -> None:
    expected = until_the_end(told)
    await eventually(lambda: len(watcher.ids) >= len(expected), what="the whole story in the stream")
    assert watcher.ids[: len(expected)] == [e["id"] for e in expected]
    assert len(set(watcher.ids)) == len(watcher.ids), "what came after the end came once as well"
    assert watcher.resets == 0


def until_the_end(told: Sequence[Json]) -> Sequence[Json]:
    """That results were collected as artifacts may be told after the run and its task have ended."""
    last = max((n for n, e in enumerate(told) if e["level"].startswith(("RUN_", "TASK_"))), default=len(told) - 1)
    return told[: last + 1]


async def the_feed_is_whole(world: World, api: Api) -> None:
    """Nothing that an owner has told is missing or doubled: each story from 1, and positions from 1, without a gap."""

    async def complete() -> bool:
        told = {(r["owner"], r["story"]): r["told"] for r in await world.rows(TOLD)}
        for owner in ("planner", "executor", "feedback", "publisher"):
            for row in await world.rows(LAST.format(owner=owner)):
                seen = told.get((owner, row["story"]), [])
                assert seen == list(range(1, row["sequence"] + 1)), (owner, row["story"], row["sequence"], seen)
        return True

    await eventually(complete, timeout=60, interval=0.2, what="the feed holding every fact once, in order")
    positions = [int(e["cursor"].split(".")[1]) for e in await api.events()]
    assert positions == list(range(1, len(positions) + 1))
