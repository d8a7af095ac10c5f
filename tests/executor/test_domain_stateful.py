"""Whatever happens to a run, in whatever order: the law holds, nothing is stuck, results stay, and it ends."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.budgets import Shortage
from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus
from contracts.run_control import NodeAction
from services.executor.domain.advance import advance
from services.executor.domain.budget import BUDGET
from services.executor.domain.facts import (
    Asked,
    Claimed,
    Effort,
    Fact,
    Failed,
    Funded,
    HandedBack,
    Parked,
    Spend,
    Spent,
    Started,
    Steered,
    Succeeded,
    TimeIsUp,
    Unfunded,
    WeatherChanged,
)
from services.executor.domain.run import AttemptStatus, Run, Step, next_instant, standing, startable
from services.executor.domain.status import NODE_DONE, NODE_LEGAL, RUN_FINAL, RUN_LEGAL
from tests.executor.building import NOW, a_run

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "600"))
ONE_CALL = Spend(10, 5, 1, Decimal("0.5"))
NO_MONEY = Shortage(
    scope="company", scope_id="c", limit_usd="1", spent_usd="1", reserved_usd="0", need_usd="1", model="p/m"
)
MODES = st.sampled_from(list(ControlMode))


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    keys = [f"n{i}" for i in range(draw(st.integers(1, 8)))]
    return {key: tuple(draw(st.sets(st.sampled_from(keys[:i])))) if i else () for i, key in enumerate(keys)}


class RunsMachine(RuleBasedStateMachine):
    """Facts fall on a run in any order; a plain record of attempts and orders is kept beside it."""

    run: Run
    KEPT = frozenset({NodeStatus.COMPLETED})  # what a node with a result can be

    @initialize(deps=graphs(), attempts=st.integers(1, 3), timeout=st.none() | st.integers(1, 600))
    def begin(self, deps: dict[str, tuple[str, ...]], attempts: int, timeout: int | None) -> None:
        self.now = NOW
        self.run = a_run(deps, attempts=attempts, timeout=timeout)
        self.open: dict[str, int] = {}  # the attempt that is under way, by node
        self.numbers: dict[str, int] = {}  # of the latest attempt
        self.completed: set[str] = set()
        self.paused: set[str] = set()  # nodes that people want to stand still
        self.apply(Claimed())

    def apply(self, fact: Fact) -> Step:
        before = self.run
        step = advance(before, fact, self.now)
        self.check_law(before, step)
        self.keep_record(step)
        self.run = step.run
        return step

    def check_law(self, before: Run, step: Step) -> None:
        run = step.run
        assert run.status == before.status or run.status in RUN_LEGAL[before.status]
        for key, node in run.nodes.items():
            old = before.nodes[key]
            assert node.status == old.status or node.status in NODE_LEGAL[old.status]
            stored = (node.status, node.attempt, node.pause_reasons)
            assert key in step.moved or stored == (old.status, old.attempt, old.pause_reasons)
        assert run.spend.tokens >= before.spend.tokens
        assert run.spend.requests >= before.spend.requests

    def keep_record(self, step: Step) -> None:
        for closed in step.closed:
            assert self.open.pop(closed.node.key) == closed.number, "an attempt ended that was not under way"
            if closed.status is AttemptStatus.SUCCEEDED:
                assert closed.node.key not in self.completed, "a finished node was executed again"
                self.completed.add(closed.node.key)
        for key in step.requeued:
            self.completed.discard(key)
            self.nothing_that_stands_on_it_is_done(step.run, key)
        for opened in step.opened:
            key = opened.node.key
            assert key not in self.open, "two attempts of a node at once"
            assert key not in self.completed
            assert key not in self.paused, "a paused node started"
            assert opened.number == self.numbers.get(key, 0) + 1, "numbers of attempts go on"
            assert all(step.run.nodes[d].status in NODE_DONE for d in opened.node.deps), "started before its inputs"
            self.open[key] = self.numbers[key] = opened.number

    def nothing_that_stands_on_it_is_done(self, run: Run, key: str) -> None:
        for successor in run.graph.successors[key]:
            status = run.nodes[successor].status
            assert status in (NodeStatus.QUEUED, NodeStatus.PAUSED, NodeStatus.SKIPPED), "it stands on nothing"
            if status is not NodeStatus.SKIPPED:
                self.nothing_that_stands_on_it_is_done(run, successor)

    @rule()
    def something_starts(self) -> None:
        if (key := startable(self.run, self.now)) is not None:
            self.apply(Started(key))

    @rule()
    def everything_starts_that_can(self) -> None:
        while (key := startable(self.run, self.now)) is not None:
            self.apply(Started(key))

    @rule(rounds=st.integers(1, 4))
    def a_stretch_of_good_work(self, rounds: int) -> None:
        for _ in range(rounds):
            self.everything_starts_that_can()
            for key, number in list(self.open.items()):
                self.apply(Succeeded(key, number, effort=Effort(ONE_CALL)))
                self.paused.discard(key)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def something_succeeds(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        self.apply(Succeeded(key, self.open[key], effort=Effort(ONE_CALL)))
        self.paused.discard(key)

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        jitter=st.floats(0, 0.999),
        retriable=st.booleans(),
        weather=st.booleans(),
        others=st.booleans(),
        wait=st.none() | st.floats(),
    )
    def something_fails(
        self, data: st.DataObject, jitter: float, retriable: bool, weather: bool, others: bool, wait: float | None
    ) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        fact = Failed(
            key,
            self.open[key],
            "why",
            jitter,
            retriable=retriable,
            weather=weather,
            excuse_ends=others,
            retry_after=wait,
            effort=Effort(ONE_CALL),
        )
        self.apply(fact)
        self.forget_pauses([key])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_budget_does_not_bear_a_call(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.open)))
        before = self.run.nodes[key]
        self.apply(Unfunded(key, self.open[key], NO_MONEY, Effort(ONE_CALL)))
        node = self.run.nodes[key]
        assert node.status is NodeStatus.PAUSED
        assert node.history() == before.history(), "want of money was held against the node"

    @rule(data=st.data())
    def there_is_money_again(self, data: st.DataObject) -> None:
        keys = data.draw(st.sets(st.sampled_from(sorted(self.run.nodes))))
        self.apply(Funded(tuple(keys)))
        assert all(BUDGET not in self.run.nodes[key].pause_reasons for key in keys)

    @rule(seconds=st.integers(1, 60))
    def a_provider_closes(self, seconds: int) -> None:
        if (key := startable(self.run, self.now)) is not None:
            self.apply(Parked(key, "p", "m", self.now + timedelta(seconds=seconds), "it is out"))

    @rule()
    def the_weather_changes(self) -> None:
        self.apply(WeatherChanged())

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
        self.forget_pauses(self.run.nodes)

    @rule()
    def the_owner_dies(self) -> None:
        self.apply(Claimed())
        self.forget_pauses(self.run.nodes)

    @rule()
    def the_owner_stops(self) -> None:
        self.apply(HandedBack())

    @rule()
    def a_call_that_was_cut_off_is_paid(self) -> None:
        self.apply(Spent(ONE_CALL))

    @rule(action=st.sampled_from([action for action in RunAction if action is not RunAction.CANCEL]), mode=MODES)
    def somebody_orders(self, action: RunAction, mode: ControlMode) -> None:
        before = self.run.status
        self.apply(Asked(action, mode))
        if action is RunAction.PAUSE and mode is ControlMode.INTERRUPT and before not in RUN_FINAL:
            assert not self.run.running
        self.forget_pauses(self.run.nodes)

    @rule(really=st.integers(0, 5))
    def somebody_cancels(self, really: int) -> None:
        if really == 0:
            self.apply(Asked(RunAction.CANCEL))
            self.forget_pauses(self.run.nodes)

    @rule(data=st.data(), mode=MODES)
    def somebody_pauses_a_node(self, data: st.DataObject, mode: ControlMode) -> None:
        key, before = self.a_node(data, *self.run.ready, *self.run.running), self.run
        self.apply(Steered(key, NodeAction.PAUSE, mode))
        if before.status not in RUN_FINAL:
            assert mode is ControlMode.FINISH or key not in self.run.running
            if before.nodes[key].status in (NodeStatus.QUEUED, NodeStatus.RUNNING):
                self.paused.add(key)

    @rule(data=st.data())
    def somebody_resumes_a_node(self, data: st.DataObject) -> None:
        key = self.a_node(data, *self.paused)
        self.paused.discard(key)
        self.apply(Steered(key, NodeAction.RESUME))

    @rule(data=st.data())
    def somebody_skips_a_node(self, data: st.DataObject) -> None:
        key = self.a_node(data)
        self.apply(Steered(key, NodeAction.SKIP))
        self.forget_pauses([key])

    @rule(data=st.data())
    def somebody_overrides_a_node(self, data: st.DataObject) -> None:
        key, before = self.a_node(data, *self.completed), self.run
        step = self.apply(Steered(key, NodeAction.OVERRIDE, prompt="Better."))
        assert bool(step.overridden) == self.may_be_overridden(before, key)

    def a_node(self, data: st.DataObject, *likely: str) -> str:
        """Often of a run that is busy; half of the time one of the likely ones, if there are any."""
        if data.draw(st.booleans()):
            self.everything_starts_that_can()
        every = sorted(self.run.nodes)
        key: str = data.draw(
            st.sampled_from(sorted(likely)) | st.sampled_from(every) if likely else st.sampled_from(every)
        )
        return key

    def attention(self) -> bool:
        run = self.run
        return bool(run.running or startable(run, self.now) or next_instant(run, self.now) or run.pause_reasons)

    def may_be_overridden(self, run: Run, key: str) -> bool:
        gone = run.nodes[key].status in (NodeStatus.SKIPPED, NodeStatus.CANCELED)
        return run.status is not RunStatus.CANCELED and not gone

    def forget_pauses(self, keys: Iterable[str]) -> None:
        """A node that has ended stands still anyway; when it runs again nobody has asked it to pause."""
        self.paused -= {key for key in keys if not self.run.nodes[key].pause_reasons}

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
            held = any(node.status is NodeStatus.PAUSED for node in run.nodes.values())
            assert self.attention() or held, "an unfinished run that is not paused waits for nothing"

    @invariant()
    def time_passes_only_while_something_can_move(self) -> None:
        run = self.run
        if run.status is RunStatus.RUNNING and run.timeout is not None:
            assert (run.deadline is not None) == bool(run.running or run.ready), "others' time is not the run's"

    @invariant()
    def finished_results_never_change(self) -> None:
        assert all(self.run.nodes[key].status in self.KEPT for key in self.completed)

    @invariant()
    def whoever_is_to_stand_still_does(self) -> None:
        for key, node in self.run.nodes.items():
            assert node.status is not NodeStatus.PAUSED or node.pause_reasons
            if key in self.paused:
                assert node.status in (NodeStatus.PAUSED, NodeStatus.RUNNING)
                assert key not in self.run.ready

    @invariant()
    def what_is_kept_is_what_would_be_rebuilt(self) -> None:
        nodes, ready, running = standing(self.run.graph, self.run.nodes.values())
        assert running == self.run.running == set(self.open)
        assert nodes == dict(self.run.nodes), "the count of open dependencies drifted"
        assert sorted(ready) == sorted(self.run.ready)

    def bless(self) -> None:
        """What else people must do, again and again, for the run to end."""

    def teardown(self) -> None:
        """Left alone, with people's blessing and models that work, every run ends, also one that had ended before."""
        if not hasattr(self, "run"):
            return
        self.apply(Asked(RunAction.RESUME))
        self.apply(Funded(tuple(self.run.nodes)))
        for key in self.run.nodes:
            self.paused.discard(key)
            self.apply(Steered(key, NodeAction.RESUME))
        for _ in range(200):
            if self.run.status in RUN_FINAL:
                return
            self.bless()
            self.now += timedelta(days=2)
            self.apply(TimeIsUp())
            if (key := startable(self.run, self.now)) is not None:
                self.apply(Started(key))
            for key, number in list(self.open.items()):
                self.apply(Succeeded(key, number))
        raise AssertionError(f"the run never ended: {self.run.status}")


TestRuns = RunsMachine.TestCase
TestRuns.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
