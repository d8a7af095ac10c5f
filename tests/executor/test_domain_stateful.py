"""Whatever happens to a run, in whatever order: the law holds, nothing is stuck, results stay, and it ends."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.executor import NodeStatus, RunAction, RunStatus
from services.executor.domain.advance import advance
from services.executor.domain.facts import Asked, Claimed, Fact, Failed, HandedBack, Started, Succeeded, TimeIsUp
from services.executor.domain.run import AttemptStatus, Run, Step, next_instant, standing, startable
from services.executor.domain.status import NODE_DONE, NODE_LEGAL, RUN_FINAL, RUN_LEGAL
from tests.executor.building import NOW, a_run

ORDERS = st.sampled_from(list(RunAction))


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    keys = [f"n{i}" for i in range(draw(st.integers(1, 8)))]
    return {key: tuple(draw(st.sets(st.sampled_from(keys[:i])))) if i else () for i, key in enumerate(keys)}


class RunsMachine(RuleBasedStateMachine):
    """Facts fall on a run in any order; a plain record of attempts is kept beside it."""

    run: Run

    @initialize(deps=graphs(), attempts=st.integers(1, 3), timeout=st.none() | st.integers(1, 600))
    def begin(self, deps: dict[str, tuple[str, ...]], attempts: int, timeout: int | None) -> None:
        self.now = NOW
        self.run = a_run(deps, attempts=attempts, timeout=timeout)
        self.open: dict[str, int] = {}  # the attempt that is under way, by node
        self.completed: set[str] = set()
        self.apply(Claimed())

    def apply(self, fact: Fact) -> None:
        before = self.run
        step = advance(before, fact, self.now)
        self.check_law(before, step)
        self.keep_record(step)
        self.run = step.run

    def check_law(self, before: Run, step: Step) -> None:
        run = step.run
        assert run.status == before.status or run.status in RUN_LEGAL[before.status]
        for key, node in run.nodes.items():
            old = before.nodes[key]
            assert node.status == old.status or node.status in NODE_LEGAL[old.status]
            assert key in step.moved or (node.status, node.attempt) == (old.status, old.attempt)

    def keep_record(self, step: Step) -> None:
        for closed in step.closed:
            assert self.open.pop(closed.node.key) == closed.number, "an attempt ended that was not under way"
            if closed.status is AttemptStatus.SUCCEEDED:
                assert closed.node.key not in self.completed, "a finished node was executed again"
                self.completed.add(closed.node.key)
        for opened in step.opened:
            assert opened.node.key not in self.open, "two attempts of a node at once"
            assert opened.node.key not in self.completed
            assert all(step.run.nodes[d].status in NODE_DONE for d in opened.node.deps), "started before its inputs"
            self.open[opened.node.key] = opened.number

    @rule(data=st.data())
    def something_starts(self, data: st.DataObject) -> None:
        if (key := startable(self.run, self.now)) is not None:
            self.apply(Started(key))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def something_succeeds(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        self.apply(Succeeded(key, self.open[key]))

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        jitter=st.floats(0, 0.999),
        retriable=st.booleans(),
        limited=st.booleans(),
        wait=st.none() | st.floats(),
    )
    def something_fails(
        self, data: st.DataObject, jitter: float, retriable: bool, limited: bool, wait: float | None
    ) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        self.apply(Failed(key, self.open[key], "why", jitter, retriable, limited, wait))

    @rule(data=st.data(), stale=st.integers(0, 3), good=st.booleans())
    def a_zombie_reports(self, data: st.DataObject, stale: int, good: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.run.nodes)))
        if self.open.get(key) == stale:
            return
        before = self.run
        self.apply(Succeeded(key, stale) if good else Failed(key, stale, "late", 0.5))
        assert self.run == before, "what an old attempt said moved the run"

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.apply(TimeIsUp())

    @rule()
    def the_owner_dies(self) -> None:
        self.apply(Claimed())

    @rule()
    def the_owner_stops(self) -> None:
        self.apply(HandedBack())

    @rule(action=ORDERS)
    def somebody_orders(self, action: RunAction) -> None:
        self.apply(Asked(action))

    @invariant()
    def a_run_that_may_move_always_can(self) -> None:
        run = self.run
        if run.status in RUN_FINAL:
            assert not run.running
            assert run.ended_at is not None
            assert run.deadline is None
        elif run.status is RunStatus.PAUSED:
            assert run.pause_reasons
            assert not run.running
            assert run.deadline is None
        else:
            attention = run.running or startable(run, self.now) or next_instant(run, self.now) or run.pause_reasons
            assert attention, "an unfinished run that is not paused waits for nothing"

    @invariant()
    def finished_results_never_change(self) -> None:
        assert all(self.run.nodes[key].status is NodeStatus.COMPLETED for key in self.completed)

    @invariant()
    def what_is_kept_is_what_would_be_rebuilt(self) -> None:
        nodes, ready, running = standing(self.run.graph, self.run.nodes.values())
        assert running == self.run.running == set(self.open)
        assert nodes == dict(self.run.nodes), "the count of open dependencies drifted"
        assert sorted(ready) == sorted(self.run.ready)

    def teardown(self) -> None:
        """Left alone, with people's blessing and models that work, every run ends."""
        if not hasattr(self, "run"):
            return
        self.apply(Asked(RunAction.RESUME))
        for _ in range(200):
            if self.run.status in RUN_FINAL:
                return
            self.now += timedelta(days=2)
            self.run = self.run if self.run.deadline is None else self.unhurried()
            if (key := startable(self.run, self.now)) is not None:
                self.apply(Started(key))
            for key, number in list(self.open.items()):
                self.apply(Succeeded(key, number))
        raise AssertionError(f"the run never ended: {self.run.status}")

    def unhurried(self) -> Run:
        self.apply(TimeIsUp())
        return self.run


TestRuns = RunsMachine.TestCase
TestRuns.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
