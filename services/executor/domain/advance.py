"""What does a fact make of a run? The one place where runs and nodes move."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, assert_never

from contracts.executor import (
    NodeCanceled,
    NodeCompleted,
    NodeFact,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeStatus,
    RunAction,
    RunCanceled,
    RunCompleted,
    RunFact,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStatus,
)
from contracts.message import Event
from services.executor.domain.facts import (
    Asked,
    Claimed,
    Fact,
    Failed,
    HandedBack,
    Started,
    Succeeded,
    TimeIsUp,
)
from services.executor.domain.retry import GiveUp, RetryAt, after_failure, lost_too_often
from services.executor.domain.run import AttemptStatus, Closed, Node, Opened, Run, Step, may_start
from services.executor.domain.status import (
    NODE_DONE,
    NODE_FINAL,
    NODE_HELD,
    NODE_LEGAL,
    RUN_FINAL,
    RUN_LEGAL,
    IllegalMove,
    moved,
)

CONTROL = "control"  # the reason to pause that people give; verdicts, budgets and providers have theirs
PREVIEW_CHARACTERS = 2_000
LOST = "the executor that ran it stopped answering"
HANDED_BACK = "the executor that ran it is shutting down"


def advance(run: Run, fact: Fact, now: datetime) -> Step:
    """The run after a fact. What is told about an attempt that is not the current one changes nothing."""
    if isinstance(fact, Succeeded | Failed) and not _is_current(run, fact):
        return Step(run)
    draft = _Draft(run, now)
    match fact:
        case Claimed():
            draft.claim()
        case Started(key):
            draft.start(key)
        case Succeeded():
            draft.succeed(fact)
        case Failed():
            draft.fail(fact)
        case TimeIsUp():
            draft.check_deadline()
        case HandedBack():
            draft.hand_back()
        case Asked(action):
            draft.obey(action)
        case _:
            assert_never(fact)
    draft.settle()
    return draft.step()


def _is_current(run: Run, fact: Succeeded | Failed) -> bool:
    node = run.nodes[fact.key]
    return node.status is NodeStatus.RUNNING and node.attempt == fact.attempt


class _Draft:
    """A run while one fact is applied to it."""

    def __init__(self, run: Run, now: datetime) -> None:
        self.run = run
        self.now = now
        self.nodes = dict(run.nodes)
        self.ready = list(run.ready)
        self.running = set(run.running)
        self.spend = run.spend
        self.messages: list[Event] = []
        self.opened: list[Opened] = []
        self.closed: list[Closed] = []
        self.moved: list[str] = []
        self.interrupted: list[str] = []

    def step(self) -> Step:
        run = self.run._replace(
            nodes=self.nodes,
            ready=tuple(self.ready),
            running=frozenset(self.running),
            spend=self.spend,
        )
        return Step(run, self.messages, self.moved, self.opened, self.closed, self.interrupted)

    # facts

    def claim(self) -> None:
        for key in self._running_in_order():
            self._lose(self.nodes[key])
        if self.run.status is RunStatus.QUEUED and not self.run.pause_reasons:
            self._go()

    def start(self, key: str) -> None:
        node = self.nodes[key]
        if not may_start(self.run, key, self.now):
            raise IllegalMove(f"node {key} of a {self.run.status} run may not start now")
        self.ready.remove(key)
        self.running.add(key)
        number = node.attempt + 1
        self._move(node, NodeStatus.RUNNING, attempt=number, due_at=None, error=None)
        self.opened.append(Opened(node.plan, number))
        self._tell_node(NodeStarted, node, number, title=node.plan.title, role=node.plan.role)

    def succeed(self, fact: Succeeded) -> None:
        node, output = self.nodes[fact.key], fact.output
        self._close(node, AttemptStatus.SUCCEEDED, fact=fact)
        self._move(node, NodeStatus.COMPLETED)
        self._release_successors(fact.key)
        self._tell_node(
            NodeCompleted,
            node,
            node.attempt,
            checksum=output.checksum if output else None,
            output_preview=output.text[:PREVIEW_CHARACTERS] if output else None,
            model=fact.effort.model,
            usage=fact.effort.spend.usage(),
            duration_ms=fact.effort.duration_ms,
        )

    def fail(self, fact: Failed) -> None:
        node = self.nodes[fact.key]
        self._close(node, AttemptStatus.FAILED, error=fact.error, fact=fact)
        decision = after_failure(
            node.history(),
            retriable=fact.retriable,
            rate_limited=fact.rate_limited,
            retry_after=fact.retry_after,
            jitter=fact.jitter,
            now=self.now,
        )
        match decision:
            case RetryAt(due, counted):
                self._requeue(node, fact.error, failures=node.failures + counted, due_at=due)
            case GiveUp():
                self._fail(node, fact.error, failures=node.failures + 1)
            case _:
                assert_never(decision)

    def check_deadline(self) -> None:
        if self.run.deadline is None or self.now < self.run.deadline:
            return
        seconds = self.run.timeout.total_seconds() if self.run.timeout else 0
        reason = f"the run's time of {seconds:g} s is over"
        for key in self._running_in_order():
            self._interrupt(self.nodes[key], AttemptStatus.FAILED, reason)
            self._fail(self.nodes[key], reason)
        self._end_failed(reason)

    def hand_back(self) -> None:
        for key in self._running_in_order():
            self._interrupt(self.nodes[key], AttemptStatus.LOST, HANDED_BACK)
            self._requeue(self.nodes[key], HANDED_BACK)

    def obey(self, action: RunAction) -> None:
        """Orders were legal when they were given; what came in between may have left nothing to do."""
        match action:
            case RunAction.PAUSE if self.run.status not in RUN_FINAL:
                self.run = self.run._replace(pause_reasons=self.run.pause_reasons | {CONTROL})
            case RunAction.RESUME if self.run.status not in RUN_FINAL:
                self._drop_control()
            case RunAction.CANCEL if self.run.status not in RUN_FINAL:
                self._cancel()
            case RunAction.SKIP_FAILED_AND_RESUME if self.run.status not in (RunStatus.COMPLETED, RunStatus.CANCELED):
                self._skip_failed()
            case RunAction.PAUSE | RunAction.RESUME | RunAction.CANCEL | RunAction.SKIP_FAILED_AND_RESUME:
                pass
            case _:
                assert_never(action)

    def settle(self) -> None:
        """The run's own state follows from its nodes'."""
        if self.run.status in RUN_FINAL or self.running:
            return
        if not self.ready and not any(node.status in NODE_HELD for node in self.nodes.values()):
            self._finish()
        elif self.run.pause_reasons:
            self._pause()
        elif self.run.status is RunStatus.PAUSED:
            self._go()

    # the run's moves

    def _go(self) -> None:
        first = self.run.started_at is None
        self._move_run(
            RunStatus.RUNNING,
            started_at=self.run.started_at or self.now,
            ended_at=None,
            error=None,
            deadline=self.now + self.run.time_left if self.run.time_left is not None else None,
            time_left=None,
        )
        self._tell_run(RunStarted if first else RunResumed)

    def _pause(self) -> None:
        if self.run.status is not RunStatus.PAUSED:
            self._stop_clock()
            self._move_run(RunStatus.PAUSED)
            self._tell_run(RunPaused, reasons=sorted(self.run.pause_reasons))

    def _finish(self) -> None:
        left = [node for node in self.nodes.values() if node.status not in NODE_DONE]
        if left:
            failed = [node.plan.key for node in left if node.status is NodeStatus.FAILED]
            self._end_failed(f"{len(failed)} of {len(self.nodes)} nodes failed: {', '.join(failed[:10])}")
            return
        self._end(RunStatus.COMPLETED)
        skipped = sum(node.status is NodeStatus.SKIPPED for node in self.nodes.values())
        usage = self.spend.usage()
        self._tell_run(
            RunCompleted,
            nodes_completed=len(self.nodes) - skipped,
            nodes_skipped=skipped,
            cost_usd=usage.cost_usd,
            tokens=self.spend.tokens,
        )

    def _end_failed(self, reason: str) -> None:
        self._end(RunStatus.FAILED, error=reason)
        failed = [key for key, node in self.nodes.items() if node.status is NodeStatus.FAILED]
        self._tell_run(RunFailed, reason=reason, failed_nodes=failed)

    def _cancel(self) -> None:
        for node in list(self.nodes.values()):
            if node.status in NODE_FINAL:
                continue
            if node.status is NodeStatus.RUNNING:
                self._interrupt(node, AttemptStatus.CANCELED, "the run was canceled")
            self._move(node, NodeStatus.CANCELED, due_at=None)
            self._tell_node(NodeCanceled, node, node.attempt)
        self.ready.clear()
        self._end(RunStatus.CANCELED)
        self._tell_run(RunCanceled)

    def _skip_failed(self) -> None:
        for node in list(self.nodes.values()):
            if node.status is NodeStatus.FAILED:
                self._move(node, NodeStatus.SKIPPED)
                self._release_successors(node.plan.key)
                self._tell_node(NodeSkipped, node, node.attempt)
        self._drop_control()
        if self.run.status is RunStatus.FAILED:
            self.run = self.run._replace(time_left=self.run.timeout)
            self._go()

    def _drop_control(self) -> None:
        self.run = self.run._replace(pause_reasons=self.run.pause_reasons - {CONTROL})

    def _end(self, status: RunStatus, **changes: Any) -> None:
        self._move_run(status, ended_at=self.now, deadline=None, time_left=None, pause_reasons=frozenset(), **changes)

    def _stop_clock(self) -> None:
        if self.run.deadline is not None:
            self.run = self.run._replace(time_left=self.run.deadline - self.now, deadline=None)

    def _move_run(self, status: RunStatus, **changes: Any) -> None:
        self.run = self.run._replace(status=moved(RUN_LEGAL, self.run.status, status, "the run"), **changes)

    # the nodes' moves

    def _move(self, node: Node, status: NodeStatus, **changes: Any) -> None:
        key = node.plan.key
        self.nodes[key] = node._replace(status=moved(NODE_LEGAL, node.status, status, key), **changes)
        self.moved.append(key)

    def _lose(self, node: Node) -> None:
        self._close(node, AttemptStatus.LOST, error=LOST)
        if lost_too_often(node.history()):
            self._fail(node, f"{LOST}, {node.losses + 1} times in all", losses=node.losses + 1)
        else:
            self._requeue(node, LOST, losses=node.losses + 1)

    def _requeue(self, node: Node, error: str, **changes: Any) -> None:
        self._move(node, NodeStatus.QUEUED, error=error, **changes)
        self.ready.append(node.plan.key)
        self._tell_node(NodeRetried, node, node.attempt, error=error, due_at=changes.get("due_at"))

    def _fail(self, node: Node, error: str, **changes: Any) -> None:
        self._move(node, NodeStatus.FAILED, error=error, **changes)
        self._tell_node(NodeFailed, node, node.attempt, error=error)

    def _interrupt(self, node: Node, status: AttemptStatus, error: str) -> None:
        self._close(node, status, error=error)
        self.interrupted.append(node.plan.key)

    def _close(
        self, node: Node, status: AttemptStatus, *, error: str | None = None, fact: Succeeded | Failed | None = None
    ) -> None:
        self.running.discard(node.plan.key)
        if fact is None:
            self.closed.append(Closed(node.plan, node.attempt, status, error))
            return
        output = fact.output if isinstance(fact, Succeeded) else None
        self.closed.append(Closed(node.plan, node.attempt, status, error, fact.effort, output))
        if fact.effort.spend.requests:
            self.spend = self.spend + fact.effort.spend

    def _release_successors(self, key: str) -> None:
        for successor in self.run.graph.successors[key]:
            node = self.nodes[successor]
            self.nodes[successor] = node = node._replace(blocked=node.blocked - 1)
            if node.blocked == 0 and node.status is NodeStatus.QUEUED:
                self.ready.append(successor)

    def _running_in_order(self) -> list[str]:
        return [key for key in self.run.graph.plans if key in self.running]

    # what is told

    def _tell_run(self, fact: Callable[..., RunFact], **body: Any) -> None:
        run = self.run
        self.messages.append(fact(company=run.company, run_id=run.id, task_id=run.task_id, title=run.title, **body))

    def _tell_node(self, fact: Callable[..., NodeFact], node: Node, attempt: int, **body: Any) -> None:
        about = {"run_id": self.run.id, "node_id": node.plan.id, "key": node.plan.key, "attempt": attempt}
        self.messages.append(fact(company=self.run.company, **about, **body))
