"""What orders make of runs and nodes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus
from contracts.run_control import NodeAction
from contracts.run_facts import (
    NodeControlLapsed,
    NodeInterrupted,
    NodeOverridden,
    NodePaused,
    NodeRequeued,
    NodeResumed,
    NodeRetried,
    NodeSkipped,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunReopened,
    RunResumed,
)
from services.executor.domain.advance import advance
from services.executor.domain.facts import (
    Asked,
    Claimed,
    Failed,
    HandedBack,
    Spend,
    Spent,
    Steered,
    Succeeded,
    TimeIsUp,
)
from services.executor.domain.run import AttemptStatus, Run, Step, startable
from tests.executor.building import NOW, a_run, after, started

PAUSE, RESUME, CANCEL, SKIP_FAILED = (Asked(action) for action in RunAction)
PAUSE_NOW = Asked(RunAction.PAUSE, ControlMode.INTERRUPT)


def steer(key: str, action: NodeAction, *, now: bool = False, prompt: str | None = None) -> Steered:
    mode = ControlMode.INTERRUPT if now else ControlMode.FINISH
    return Steered(key, action, mode, prompt=prompt, by="Ada")


def override(key: str) -> Steered:
    return steer(key, NodeAction.OVERRIDE, prompt="Do it better.")


def failure(key: str, attempt: int = 1, **fields: object) -> Failed:
    return Failed(key, attempt, "it broke", 0.5, **fields)  # type: ignore[arg-type]


def lapsed(step: Step) -> tuple[str, NodeAction, str, str | None]:
    [fact] = step.messages
    assert isinstance(fact, NodeControlLapsed)
    return fact.key, fact.action, fact.reason, fact.by


def statuses(run: Run) -> dict[str, str]:
    return {key: str(node.status) for key, node in run.nodes.items()}


def told(step: Step) -> list[str]:
    return [type(message).__name__ for message in step.messages]


def completed(*keys: str, run: Run | None = None) -> Run:
    """A run of the diamond in which these nodes have completed, one after the other, and what may run runs."""
    run = started(run or a_run())
    for key in keys:
        run = started(after(run, Succeeded(key, run.nodes[key].attempt)))
    return run


# runs


def test_a_pause_lets_running_nodes_finish_and_shows_when_none_runs() -> None:
    run = after(started(a_run()), PAUSE)
    assert (run.status, startable(run, NOW)) == (RunStatus.RUNNING, None)
    step = advance(run, Succeeded("a", 1), NOW)
    assert step.run.status is RunStatus.PAUSED
    assert startable(step.run, NOW) is None
    assert [m.reasons for m in step.messages if isinstance(m, RunPaused)] == [["control"]]


def test_a_pause_that_interrupts_cuts_attempts_off_and_holds_nothing_against_the_nodes() -> None:
    step = advance(completed("a"), PAUSE_NOW, NOW)
    assert (step.run.status, step.interrupted) == (RunStatus.PAUSED, ["b", "c"])
    assert {(c.node.key, c.status) for c in step.closed} == {(k, AttemptStatus.CANCELED) for k in "bc"}
    node = step.run.nodes["b"]
    assert (node.status, node.failures, node.losses, node.waits) == (NodeStatus.QUEUED, 0, 0, 0)
    assert told(step) == ["NodeInterrupted", "NodeInterrupted", "RunPaused"]
    assert started(after(step.run, RESUME)).nodes["b"].attempt == 2


def test_a_pause_during_the_last_node_does_not_hold_the_run_open() -> None:
    run = after(started(a_run({"a": ()})), PAUSE, Succeeded("a", 1))
    assert run.status is RunStatus.COMPLETED


def test_a_resumed_run_goes_on_where_it_was() -> None:
    step = advance(after(started(a_run()), PAUSE, Succeeded("a", 1)), RESUME, NOW)
    assert (step.run.status, startable(step.run, NOW)) == (RunStatus.RUNNING, "b")
    assert isinstance(step.messages[-1], RunResumed)


def test_a_cancel_stops_everything_at_once() -> None:
    run = after(completed("a"), steer("d", NodeAction.PAUSE))
    step = advance(run, CANCEL, NOW)
    assert step.run.status is RunStatus.CANCELED
    assert statuses(step.run) == {"a": "completed", "b": "canceled", "c": "canceled", "d": "canceled"}
    assert step.interrupted == ["b", "c"]
    assert {c.status for c in step.closed} == {AttemptStatus.CANCELED}
    assert step.run.nodes["d"].pause_reasons == frozenset()


def test_skipping_what_failed_reopens_the_run_and_frees_what_waited() -> None:
    run = after(started(a_run()), failure("a", retriable=False))
    assert run.status is RunStatus.FAILED
    step = advance(run, SKIP_FAILED, NOW)
    assert told(step) == ["NodeSkipped", "RunReopened", "RunResumed"]
    run = step.run
    assert (run.status, run.nodes["a"].status, run.ready) == (RunStatus.RUNNING, NodeStatus.SKIPPED, ("b", "c"))
    assert run.ended_at is None
    assert run.error is None


def test_skipping_the_last_node_that_failed_completes_the_run() -> None:
    step = advance(after(started(a_run({"a": ()})), failure("a", retriable=False)), SKIP_FAILED, NOW)
    assert step.run.status is RunStatus.COMPLETED
    told = step.messages[-1]
    assert isinstance(told, RunCompleted)
    assert (told.nodes_completed, told.nodes_skipped) == (0, 1)


# pausing a node


def test_a_paused_node_does_not_start_and_what_follows_it_waits() -> None:
    step = advance(started(a_run()), steer("b", NodeAction.PAUSE), NOW)
    assert [m.reasons for m in step.messages if isinstance(m, NodePaused)] == [["control"]]
    run = started(after(step.run, Succeeded("a", 1)))
    run = after(run, Succeeded("c", 1))
    assert statuses(run) == {"a": "completed", "b": "paused", "c": "completed", "d": "queued"}
    assert (run.status, startable(run, NOW)) == (RunStatus.RUNNING, None)


def test_a_resumed_node_is_ready_when_what_it_needs_is_done() -> None:
    paused = after(started(a_run()), steer("b", NodeAction.PAUSE), steer("d", NodeAction.PAUSE), Succeeded("a", 1))
    step = advance(paused, steer("b", NodeAction.RESUME), NOW)
    assert isinstance(step.messages[0], NodeResumed)
    assert set(step.run.ready) == {"b", "c"}
    run = after(step.run, steer("d", NodeAction.RESUME))
    assert (run.nodes["d"].status, set(run.ready)) == (NodeStatus.QUEUED, {"b", "c"})


def test_a_running_node_that_is_to_pause_finishes_and_counts() -> None:
    run = after(started(a_run()), steer("a", NodeAction.PAUSE))
    assert (run.nodes["a"].status, run.nodes["a"].pause_reasons) == (NodeStatus.RUNNING, {"control"})
    run = after(run, Succeeded("a", 1))
    assert (run.nodes["a"].status, run.nodes["a"].pause_reasons) == (NodeStatus.COMPLETED, frozenset())
    assert set(run.ready) == {"b", "c"}


@pytest.mark.parametrize("end", [failure("a"), Claimed(), HandedBack()])
def test_a_running_node_that_is_to_pause_is_paused_instead_of_repeated(end: Failed | Claimed | HandedBack) -> None:
    step = advance(after(started(a_run()), steer("a", NodeAction.PAUSE)), end, NOW)
    assert step.run.nodes["a"].status is NodeStatus.PAUSED
    assert [type(m) for m in step.messages] == [NodeRetried, NodePaused]
    run = after(step.run, steer("a", NodeAction.RESUME))
    assert startable(run, NOW + timedelta(minutes=1)) == "a"


def test_a_running_node_that_is_to_pause_still_fails_when_it_would_not_be_repeated() -> None:
    run = after(started(a_run()), steer("a", NodeAction.PAUSE), failure("a", retriable=False))
    assert (run.nodes["a"].status, run.status) == (NodeStatus.FAILED, RunStatus.FAILED)


def test_a_running_node_is_paused_at_once_when_it_is_interrupted() -> None:
    step = advance(started(a_run()), steer("a", NodeAction.PAUSE, now=True), NOW)
    assert (step.run.nodes["a"].status, step.interrupted) == (NodeStatus.PAUSED, ["a"])
    assert told(step) == ["NodeInterrupted", "NodePaused"]
    assert [c.status for c in step.closed] == [AttemptStatus.CANCELED]


def test_taking_a_pause_back_while_the_node_still_runs_changes_nothing_else() -> None:
    run = after(started(a_run()), steer("a", NodeAction.PAUSE), steer("a", NodeAction.RESUME))
    assert (run.nodes["a"].status, run.nodes["a"].pause_reasons) == (NodeStatus.RUNNING, frozenset())
    assert after(run, failure("a")).nodes["a"].status is NodeStatus.QUEUED


def test_a_run_that_waits_for_paused_nodes_alone_loses_no_time() -> None:
    run = after(started(a_run(timeout=10)), steer("b", NodeAction.PAUSE), steer("c", NodeAction.PAUSE))
    run = after(run, Succeeded("a", 1), now=NOW + timedelta(seconds=4))
    assert (run.status, run.deadline, run.time_left) == (RunStatus.RUNNING, None, timedelta(seconds=6))
    later = NOW + timedelta(days=1)
    run = after(run, TimeIsUp(), steer("b", NodeAction.RESUME), now=later)
    assert (run.status, run.deadline) == (RunStatus.RUNNING, later + timedelta(seconds=6))


def test_a_node_of_a_paused_run_that_is_resumed_waits_for_the_run() -> None:
    run = after(started(a_run()), steer("b", NodeAction.PAUSE), PAUSE, Succeeded("a", 1), steer("b", NodeAction.RESUME))
    assert (run.status, startable(run, NOW)) == (RunStatus.PAUSED, None)
    assert startable(after(run, RESUME), NOW) is not None


# skipping a node


def test_a_skipped_node_lets_go_of_what_follows_it() -> None:
    run = completed("a")
    step = advance(run, steer("b", NodeAction.SKIP), NOW)
    assert (step.run.nodes["b"].status, step.interrupted, told(step)) == (NodeStatus.SKIPPED, ["b"], ["NodeSkipped"])
    assert after(step.run, Succeeded("c", 1)).ready == ("d",)


def test_a_queued_and_a_paused_node_can_be_skipped() -> None:
    run = after(
        started(a_run()), steer("b", NodeAction.PAUSE), steer("b", NodeAction.SKIP), steer("c", NodeAction.SKIP)
    )
    assert statuses(run) == {"a": "running", "b": "skipped", "c": "skipped", "d": "queued"}
    assert after(run, Succeeded("a", 1)).ready == ("d",)


def test_skipping_one_of_two_failed_nodes_reopens_the_run_which_fails_with_the_other() -> None:
    run = after(completed("a"), failure("b", retriable=False), failure("c", retriable=False))
    assert run.status is RunStatus.FAILED
    step = advance(run, steer("b", NodeAction.SKIP), NOW)
    assert told(step) == ["NodeSkipped", "RunReopened", "RunResumed", "RunFailed"]
    assert isinstance(step.messages[-1], RunFailed)
    assert after(step.run, steer("c", NodeAction.SKIP)).status is RunStatus.RUNNING


# overriding a node


def test_a_queued_node_that_is_overridden_starts_with_it_and_anew() -> None:
    run = after(started(a_run()), failure("a"))
    step = advance(run, override("a"), NOW)
    node = step.run.nodes["a"]
    assert (node.status, node.attempt, node.failures, node.due_at) == (NodeStatus.QUEUED, 1, 0, None)
    assert [(o.node.key, o.prompt, o.params) for o in step.overridden] == [("a", "Do it better.", None)]
    fact = step.messages[0]
    assert isinstance(fact, NodeOverridden)
    assert (fact.fields, fact.by) == (["prompt"], "Ada")


def test_a_running_node_that_is_overridden_is_cut_off_and_starts_again() -> None:
    step = advance(started(a_run()), override("a"), NOW)
    assert (step.interrupted, told(step)) == (["a"], ["NodeOverridden", "NodeInterrupted"])
    run = started(step.run)
    assert (run.nodes["a"].status, run.nodes["a"].attempt) == (NodeStatus.RUNNING, 2)
    assert advance(run, Succeeded("a", 1), NOW).run is run


def test_a_paused_node_that_is_overridden_stays_paused() -> None:
    run = after(started(a_run()), steer("b", NodeAction.PAUSE), override("b"))
    assert run.nodes["b"].status is NodeStatus.PAUSED


def test_a_completed_node_that_is_overridden_makes_what_stands_on_it_stale() -> None:
    run = completed("a", "b")
    step = advance(run, override("a"), NOW)
    assert statuses(step.run) == dict.fromkeys("abcd", "queued")
    assert (step.run.ready, sorted(step.requeued), step.interrupted) == (("a",), ["a", "b"], ["c"])
    reasons = {m.key: m.reason for m in step.messages if isinstance(m, NodeRequeued | NodeInterrupted)}
    assert reasons == {"a": "it was overridden", "b": "a runs again", "c": "a runs again"}
    assert {k: n.attempt for k, n in started(step.run).nodes.items()} == {"a": 2, "b": 1, "c": 1, "d": 0}


def test_what_was_skipped_or_paused_stays_so_when_what_is_before_it_runs_again() -> None:
    run = after(completed("a"), steer("b", NodeAction.SKIP), steer("d", NodeAction.PAUSE), Succeeded("c", 1))
    run = after(run, override("a"))
    assert statuses(run) == {"a": "queued", "b": "skipped", "c": "queued", "d": "paused"}
    run = after(started(run), Succeeded("a", 2))
    run = after(started(run), Succeeded("c", 2), steer("d", NodeAction.RESUME))
    assert run.ready == ("d",)


def test_what_follows_only_skipped_nodes_never_saw_the_result_and_stands() -> None:
    chain = {"a": (), "b": ("a",), "c": ("b",)}
    run = after(started(a_run(chain)), Succeeded("a", 1), steer("b", NodeAction.SKIP))
    run = after(started(run), Succeeded("c", 1))
    assert run.status is RunStatus.COMPLETED
    assert statuses(after(run, override("a"))) == {"a": "queued", "b": "skipped", "c": "completed"}


def test_a_completed_run_is_reopened_by_an_override_with_all_its_time_and_ends_again() -> None:
    run = completed("a", "b", "c", "d", run=a_run(timeout=10))
    assert run.status is RunStatus.COMPLETED
    later = NOW + timedelta(days=1)
    step = advance(run, override("c"), later)
    assert [type(m) for m in step.messages[-2:]] == [RunReopened, RunResumed]
    run = step.run
    assert (run.status, run.ended_at, run.deadline) == (RunStatus.RUNNING, None, later + timedelta(seconds=10))
    assert statuses(run) == {"a": "completed", "b": "completed", "c": "queued", "d": "queued"}
    run = started(run, later)
    run = started(after(run, Succeeded("c", 2), now=later), later)
    assert after(run, Succeeded("d", 2), now=later).status is RunStatus.COMPLETED


def test_a_failed_node_that_is_overridden_gets_all_its_attempts_again() -> None:
    run = after(started(a_run({"a": ()}, attempts=2)), failure("a", retriable=False))
    run = started(after(run, override("a")))
    assert (run.status, run.nodes["a"].failures, run.nodes["a"].attempt) == (RunStatus.RUNNING, 0, 2)
    assert after(run, failure("a", 2)).nodes["a"].status is NodeStatus.QUEUED


def test_nothing_steers_the_nodes_of_a_canceled_run_and_every_order_says_so() -> None:
    run = after(completed("a"), CANCEL)
    for action in NodeAction:
        for key in run.nodes:
            step = advance(run, steer(key, action, prompt="x"), NOW)
            assert step.run == run
            assert lapsed(step) == (key, action, "the run is canceled by now", "Ada")


@pytest.mark.parametrize(
    ("key", "action", "reason"),
    [
        ("a", NodeAction.PAUSE, "the node is completed by now"),
        ("a", NodeAction.RESUME, "the node is completed by now"),
        ("a", NodeAction.SKIP, "the node is completed by now"),
        ("b", NodeAction.OVERRIDE, "the node is skipped by now"),
        ("b", NodeAction.SKIP, "the node is skipped by now"),
        ("d", NodeAction.RESUME, "nobody's pause holds the node any more"),
    ],
)
def test_an_order_that_comes_too_late_changes_nothing_and_leaves_a_trace(
    key: str, action: NodeAction, reason: str
) -> None:
    run = after(completed("a"), steer("b", NodeAction.SKIP))
    step = advance(run, steer(key, action, prompt="x"), NOW)
    assert step.run == run
    assert lapsed(step) == (key, action, reason, "Ada")


@pytest.mark.parametrize("action", [NodeAction.PAUSE, NodeAction.RESUME])
def test_a_node_of_a_run_that_has_ended_is_neither_paused_nor_resumed(action: NodeAction) -> None:
    run = after(started(a_run(timeout=10)), steer("d", NodeAction.PAUSE))
    run = after(run, TimeIsUp(), now=NOW + timedelta(seconds=11))
    assert (run.status, run.nodes["d"].status) == (RunStatus.FAILED, NodeStatus.PAUSED)
    step = advance(run, steer("d", action), NOW)
    assert step.run == run
    assert lapsed(step) == ("d", action, "the run is failed by now", "Ada")


def test_what_an_order_made_of_a_node_says_by_whom() -> None:
    run = started(a_run())
    orders = (
        steer("b", NodeAction.PAUSE),
        steer("b", NodeAction.RESUME),
        steer("a", NodeAction.PAUSE, now=True),
        steer("c", NodeAction.SKIP),
    )
    for order in orders:
        step = advance(run, order, NOW)
        told_by = [m.by for m in step.messages if isinstance(m, NodePaused | NodeResumed | NodeSkipped)]
        assert told_by == ["Ada"], order
        run = step.run


def test_nodes_that_are_skipped_with_an_order_to_their_run_say_by_whom() -> None:
    run = after(completed("a"), failure("b", retriable=False))
    step = advance(run, Asked(RunAction.SKIP_FAILED_AND_RESUME, by="Ada"), NOW)
    assert [m.by for m in step.messages if isinstance(m, NodeSkipped)] == ["Ada"]


def test_a_node_that_waits_for_something_else_can_be_paused_by_a_person_too() -> None:
    run = started(a_run())
    node = run.nodes["b"]._replace(status=NodeStatus.PAUSED, pause_reasons=frozenset({"verdict"}))
    run = run._replace(nodes={**run.nodes, "b": node})
    run = after(run, steer("b", NodeAction.PAUSE, now=True))
    assert run.nodes["b"].pause_reasons == {"verdict", "control"}


def test_an_order_to_skip_tells_it_once() -> None:
    run = after(started(a_run()), steer("b", NodeAction.SKIP))
    assert not [m for m in advance(run, steer("b", NodeAction.SKIP), NOW).messages if isinstance(m, NodeSkipped)]


def test_what_a_call_took_that_was_cut_off_is_added_to_the_run() -> None:
    run = after(started(a_run()), PAUSE_NOW, Spent(Spend(10, 5, 1, unpriced=1)))
    assert (run.spend.tokens, run.spend.requests, run.spend.unpriced) == (15, 1, 1)


# taking results over


def test_a_run_whose_nodes_are_all_done_completes_as_soon_as_it_is_claimed() -> None:
    run = a_run({"a": (), "b": ("a",)})
    nodes = {key: node._replace(status=NodeStatus.COMPLETED, blocked=0) for key, node in run.nodes.items()}
    step = advance(run._replace(nodes=nodes, ready=()), Claimed(), NOW)
    assert (step.run.status, told(step)) == (RunStatus.COMPLETED, ["RunStarted", "RunCompleted"])
