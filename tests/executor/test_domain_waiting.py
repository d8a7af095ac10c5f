"""Everything that does not move is named, with the exact reason and what will release it."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import given

from contracts.budgets import Shortage
from contracts.executor import NodeStatus, RunStatus, Wanted
from contracts.run_control import Waiting, WaitReason
from contracts.verdict import Decision, Effect, Source, Verdict
from services.executor.domain.scene import DeadOrder, Order, Scene, SceneNode, Weather, Worker
from services.executor.domain.status import NODE_FINAL, RUN_FINAL
from services.executor.domain.waiting import explained
from tests.executor.building import NOW

RUN = uuid4()
SOON = NOW + timedelta(seconds=30)
WORKER = Worker(uuid4(), "host-a", SOON, dead=False, running=16)


def node(key: str, status: str = "queued", *deps: str, **fields: object) -> SceneNode:
    base = SceneNode(uuid4(), key, NodeStatus(status), deps, 1, None, None, NOW, (), None, None, None)
    return base._replace(**fields)


def scene(*nodes: SceneNode, **fields: object) -> Scene:
    base = Scene(NOW, RUN, RunStatus.RUNNING, Wanted.RUN, None, None, (), NOW, None, WORKER, nodes, ())
    return base._replace(**fields)


def only(found: Scene) -> Waiting:
    (item,) = explained(found).items
    return item


def test_a_running_node_is_under_the_lease_of_a_worker() -> None:
    item = only(scene(node("a", "running")))
    assert (item.reason, item.until, item.on) == (WaitReason.RUNNING, SOON, [str(WORKER.id)])
    assert "host-a until 12:00:30 UTC" in item.detail


def test_a_ready_node_of_a_busy_worker_waits_for_a_slot() -> None:
    item = only(scene(node("a")))
    assert item.reason is WaitReason.SLOT
    assert "runs 16 nodes" in item.detail


def test_a_node_that_failed_waits_for_its_next_attempt() -> None:
    item = only(scene(node("a", due_at=SOON, error="HTTP 500")))
    assert (item.reason, item.until) == (WaitReason.RETRY, SOON)
    assert "HTTP 500" in item.detail


def test_a_node_without_money_names_the_budget_what_is_left_what_it_needs_and_what_helps() -> None:
    short = Shortage(
        scope="task",
        scope_id="t1",
        limit_usd="1",
        spent_usd="0.7",
        reserved_usd="0.2",
        need_usd="0.13",
        model="openai/x",
    )
    item = only(scene(node("a", "paused", pause_reasons=("budget",), shortage=short)))
    assert (item.reason, item.on) == (WaitReason.BUDGET, ["task/t1"])
    for figure in ("of $1,", "$0.7 are spent", "$0.2 reserved", "up to $0.13", "openai/x"):
        assert figure in item.detail
    assert "fluidcrew budget set task t1" in item.release
    unknown = short.model_copy(update={"need_usd": None, "note": "set LLM_PRICES"})
    item = only(scene(node("a", "paused", pause_reasons=("budget",), shortage=unknown)))
    assert "set LLM_PRICES" in item.detail
    assert "LLM_PRICES" in item.release


def test_a_node_whose_provider_is_closed_says_until_when() -> None:
    item = only(scene(node("a", due_at=SOON, weather=Weather("openai", "gpt", "429: too many", SOON))))
    assert (item.reason, item.until, item.on) == (WaitReason.PROVIDER, SOON, ["openai/gpt"])
    assert "429: too many" in item.detail


def test_a_paused_node_names_who_paused_it() -> None:
    item = only(scene(node("a", "paused", pause_reasons=["control"], asked_by="Ada", asked_at=NOW)))
    assert (item.reason, item.by, item.release) == (WaitReason.PAUSED, "Ada", "resume or skip of the node")
    assert item.detail == "it was paused by Ada at 12:00:00 UTC"
    assert only(scene(node("a", "paused", pause_reasons=["verdict"]))).reason is WaitReason.VERDICT
    assert only(scene(node("a", "reviewing"))).reason is WaitReason.VERDICT


def test_a_blocked_node_names_what_it_needs() -> None:
    _, item = explained(scene(node("a", "running"), node("b", "queued", "a"))).items
    assert (item.reason, item.on) == (WaitReason.DEPENDENCY, ["a"])
    assert "a (running)" in item.detail


def test_a_node_behind_a_failed_one_says_that_it_never_runs_however_far_behind() -> None:
    nodes = [node("a", "failed"), node("b", "queued", "a"), node("c", "queued", "b"), node("x", "running")]
    b, c, _ = explained(scene(*nodes)).items
    for item in (b, c):
        assert (item.reason, item.on, item.release) == (WaitReason.FAILED_DEPENDENCY, ["a"], "skip or override of a")


def test_a_run_that_nobody_has_taken_comes_first() -> None:
    run, item = explained(scene(node("a"), status=RunStatus.QUEUED, owner=None, wake_at=NOW)).items
    assert (run.what, run.reason, item.what, item.reason) == ("run", WaitReason.EXECUTOR, "node", WaitReason.EXECUTOR)


def test_a_paused_run_says_by_whom_and_what_finishes_first() -> None:
    asked = {"pause_reasons": ["control"], "wanted": Wanted.PAUSE, "asked_by": "Ada", "asked_at": NOW}
    run, _, item = explained(scene(node("a", "running"), node("b"), **asked)).items
    assert (run.reason, run.by, run.on) == (WaitReason.PAUSED, "Ada", ["a"])
    assert run.detail == "a pause was asked for by Ada at 12:00:00 UTC; 1 node finishes first"
    assert (item.reason, item.release) == (WaitReason.PAUSED, "resume of the run")


def test_an_order_that_was_not_carried_out_yet_is_what_is_waited_for() -> None:
    orders = [Order("cancel", None, NOW, "Ada"), Order("pause", "a", NOW, "Bob")]
    run, item = explained(scene(node("a"), orders=orders)).items
    assert (run.what, run.reason, run.by) == ("run", WaitReason.ORDER, "Ada")
    assert (item.reason, item.by, item.key) == (WaitReason.ORDER, "Bob", "a")


def test_a_worker_whose_lease_is_over_holds_nothing() -> None:
    gone = WORKER._replace(lease_until=NOW)
    run, item = explained(scene(node("a", "running"), owner=gone)).items
    assert (run.reason, item.reason) == (WaitReason.EXECUTOR, WaitReason.EXECUTOR)


@pytest.mark.parametrize("status", sorted(RUN_FINAL))
def test_a_run_that_is_over_waits_for_nothing(status: RunStatus) -> None:
    assert explained(scene(node("a", "failed"), node("b", "queued", "a"), status=status, owner=None)).items == []


def a_verdict(**fields: object) -> Verdict:
    said = {"effect": Effect.HOLD, "decision": Decision.REJECT, "critical": True, "source": Source.HUMAN}
    about = {"feedback_id": uuid4(), "attempt": 1, "version": 1, "reviewer": "Ada", "critique": "no\nsource", "at": NOW}
    return Verdict.model_validate(said | about | {"score": 45, "threshold": 60} | fields)


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_run_that_is_over_waits_for_people_where_a_verdict_found_a_result_wanting(status: str) -> None:
    nodes = [node("a", "completed", verdict=a_verdict()), node("b", "completed", "a"), node("c", "failed")]
    item = only(scene(*nodes, status=RunStatus(status), owner=None))
    assert (item.key, item.reason, item.by) == ("a", WaitReason.VERDICT, "Ada")
    assert item.detail == "its result counts, and waits for a person: Ada gave it a score of 45 < 60: no source"
    assert item.release == f"fluidcrew review accept|rerun {nodes[0].id}"
    canceled = scene(*nodes, status=RunStatus.CANCELED, owner=None)
    assert explained(canceled).items == []


def test_a_verdict_that_does_not_hold_a_result_is_nothing_to_wait_for() -> None:
    fine = a_verdict(effect=Effect.NOTE, score=70)
    assert explained(scene(node("a", "completed", verdict=fine), status=RunStatus.COMPLETED, owner=None)).items == []
    held = node("a", "paused", pause_reasons=["verdict"], verdict=a_verdict(score=70, source=Source.AUTO))
    assert "a review gave it a score of 70: no source" in only(scene(held)).detail, "code was sure of it"


def test_an_order_that_was_set_aside_says_why_and_how_it_is_given_again() -> None:
    orders = [Order("skip", "a", NOW, "Ada"), Order("verdict", "a", NOW, None), Order("cancel", None, NOW, None)]
    dead = [DeadOrder(uuid4(), order, "KeyError: 'a'", SOON) for order in orders]
    skip, verdict, cancel, _ = explained(scene(node("a"), dead=dead)).items
    end = "at 12:00:00 UTC, could not be carried out and is set aside: KeyError: 'a'"
    assert skip.detail == f"skip of a was ordered by Ada {end}"
    assert verdict.detail == f"a verdict on a came {end}"
    assert cancel.detail == f"cancel was ordered {end}"
    assert (skip.reason, skip.by) == (WaitReason.ORDER, "Ada")
    assert f"fluidcrew dlq replay {dead[0].letter}" in skip.release


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    keys = [f"n{i}" for i in range(draw(st.integers(1, 6)))]
    nodes = []
    for i, key in enumerate(keys):
        status = draw(st.sampled_from(list(NodeStatus)))
        reasons = draw(st.sampled_from([["control"], ["verdict"], ["budget", "control"]]))
        deps = draw(st.sets(st.sampled_from(keys[:i]))) if i else ()
        weather = draw(st.sampled_from([None, Weather("p", "m", None, None)]))
        due = draw(st.sampled_from([None, NOW, SOON]))
        nodes.append(node(key, status, *deps, pause_reasons=reasons, weather=weather, due_at=due))
    orders = [Order("pause", key, NOW, None) for key in draw(st.sets(st.sampled_from([*keys, None])))]
    return scene(
        *nodes,
        status=draw(st.sampled_from(sorted(set(RunStatus) - RUN_FINAL))),
        owner=draw(st.sampled_from([None, WORKER, WORKER._replace(dead=True)])),
        wake_at=draw(st.sampled_from([None, NOW, SOON])),
        pause_reasons=draw(st.sampled_from([(), ("control",)])),
        orders=orders,
    )


@given(found=scenes())
def test_every_node_that_is_not_over_is_named_once_and_the_run_first(found: Scene) -> None:
    items = explained(found).items
    assert [i.key for i in items if i.what == "node"] == [n.key for n in found.nodes if n.status not in NODE_FINAL]
    assert [i.what for i in items[1:]] == ["node"] * len(items[1:])
    assert all(i.detail and i.release for i in items)
