"""What people may ask of tasks, and which tasks may wait for which: without I/O, against naive models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.errors import Code, Rejection
from contracts.executor import RunAction, RunStatus
from contracts.planner import PlanStatus, Task, TaskControl, TaskStatus
from contracts.task_control import ControlTask, TaskAction
from services.planner.domain.control import (
    Order,
    asked_for,
    came_too_late,
    control_run,
    flags_after,
    is_due,
    judge,
    legal_actions,
    let_start,
    may_start,
)
from services.planner.domain.dependencies import cycle, refuse_cycle
from services.planner.domain.drift import STATE, Fix, mended
from services.planner.domain.launch import Terms, another, start_run
from services.planner.domain.task import OVER, RunState, TaskRun, accepted, is_latest, shown, told
from tests.planner.scripted_executor import KnownRun, known_run, start_order

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FLAGS = (TaskControl(), TaskControl(pause=True), TaskControl(cancel=True))
IDS = [UUID(int=n) for n in range(12)]


def task(status: TaskStatus = TaskStatus.READY, flags: TaskControl = FLAGS[0], **fields: object) -> Task:
    return Task(
        id=IDS[0],
        company_id="default",
        project_id="default",
        title="t",
        description=None,
        status=status,
        archived=False,
        ad_hoc=False,
        gate=None,
        plan_id=None,
        run_id=None,
        created_at=NOW,
        updated_at=NOW,
        control=flags,
        **fields,  # type: ignore[arg-type]
    )


def order(action: TaskAction) -> ControlTask:
    return ControlTask(command_id=uuid4(), task_id=IDS[0], action=action, by="ada")


tasks = st.builds(
    task,
    st.sampled_from(TaskStatus),
    st.sampled_from(FLAGS),
    waits_for=st.lists(st.sampled_from(IDS[1:]), max_size=2),
    auto_start=st.booleans(),
)


# flags


@given(tasks, st.sampled_from(TaskAction), st.booleans())
def test_an_order_that_took_effect_may_be_repeated_and_changes_nothing(
    found: Task, action: TaskAction, active: bool
) -> None:
    if action not in legal_actions(found, active):
        return
    flags = flags_after(order(action), found.control, NOW)
    after = found.model_copy(update={"control": flags})
    assert action in legal_actions(after, active)
    assert flags_after(order(action), flags, NOW) is flags
    assert not (flags.pause and flags.cancel)


@given(tasks, st.sampled_from(TaskAction), st.booleans())
def test_a_refused_order_names_the_state_and_what_would_be_legal(found: Task, action: TaskAction, active: bool) -> None:
    may = legal_actions(found, active)
    if action in may:
        judge(action, found, active)
        return
    with pytest.raises(Rejection) as refused:
        judge(action, found, active)
    assert refused.value.failure.code is Code.ILLEGAL_STATE
    assert refused.value.failure.details == {"state": found.status, "legal": may}
    assert TaskAction.RESET in may


@pytest.mark.parametrize(
    ("status", "flags", "active", "legal"),
    [
        (TaskStatus.DRAFT, FLAGS[0], False, "pause resume cancel reset"),
        (TaskStatus.RUNNING, FLAGS[0], True, "pause resume cancel reset"),
        (TaskStatus.PAUSED, FLAGS[1], True, "pause resume cancel reset"),
        (TaskStatus.RUNNING, FLAGS[2], True, "cancel reset"),
        (TaskStatus.READY, FLAGS[2], False, "resume cancel reset"),
        (TaskStatus.COMPLETED, FLAGS[0], False, "resume reset"),
        (TaskStatus.FAILED, FLAGS[0], False, "resume reset"),
        (TaskStatus.FAILED, FLAGS[1], False, "pause resume reset"),
    ],
)
def test_what_may_be_asked_of_a_task(status: TaskStatus, flags: TaskControl, active: bool, legal: str) -> None:
    assert legal_actions(task(status, flags), active) == legal.split()


@given(tasks)
def test_a_task_starts_only_when_neither_flags_nor_other_tasks_are_in_the_way(found: Task) -> None:
    if may_start(found):
        let_start(found)
        return
    with pytest.raises(Rejection) as refused:
        let_start(found)
    expected = Code.CANCELED if found.control.cancel else Code.PAUSED if found.control.pause else Code.WAITS_FOR_TASKS
    assert refused.value.failure.code is expected
    assert not is_due(found)


def test_who_set_a_flag_is_named_to_whoever_it_stops() -> None:
    flags = TaskControl(pause=True, asked_at=NOW, asked_by="ada")
    with pytest.raises(Rejection, match=rf"paused by ada; POST /tasks/{IDS[0]}/resume or …/reset first") as refused:
        let_start(task(flags=flags))
    assert refused.value.failure.details == {"asked_by": "ada", "asked_at": NOW.isoformat()}


def test_a_refusal_names_the_way_out_as_it_is_to_be_typed() -> None:
    acme = task(waits_for=[IDS[1]]).model_copy(update={"company_id": "acme"})
    with pytest.raises(Rejection) as refused:
        let_start(acme)
    assert str(refused.value) == (
        f"the task waits for one other task to be completed; GET /companies/acme/tasks/{IDS[0]}/dependencies"
        " shows how they stand"
    )
    with pytest.raises(Rejection, match="waits for 2 other tasks"):
        let_start(task(waits_for=IDS[1:3]))
    with pytest.raises(Rejection, match=f"draft one with POST /companies/acme/tasks/{IDS[0]}/plan"):
        start_run(acme, None, another(uuid4(), None))


@pytest.mark.parametrize("action", TaskAction)
def test_without_an_active_run_an_order_changes_flags_only(action: TaskAction) -> None:
    assert asked_for(action, task(TaskStatus.DRAFT), False) is TaskStatus.DRAFT


def test_an_order_reaches_a_run_under_one_id_however_often_and_others_under_others() -> None:
    one, other = Order(uuid4(), TaskAction.CANCEL), Order(uuid4(), TaskAction.CANCEL)
    said = [control_run("default", IDS[1], one), control_run("default", IDS[1], one)]
    assert said[0] == said[1]
    assert said[0].action is RunAction.CANCEL
    ids = {control_run("default", run, o).command_id for run in IDS[:3] for o in (one, other)}
    assert len(ids) == 6


def test_only_a_run_that_is_being_canceled_makes_a_mistake_of_a_resume() -> None:
    def refused(state: RunStatus) -> Rejection:
        return Rejection(Code.ILLEGAL_STATE, f"the run is {state}", state=state, legal=[])

    resume, pause = Order(uuid4(), TaskAction.RESUME), Order(uuid4(), TaskAction.PAUSE)
    late = came_too_late(resume, refused(RunStatus.RUNNING))
    assert late is not None
    assert late.failure.details["legal"] == [TaskAction.CANCEL, TaskAction.RESET]
    assert came_too_late(resume, refused(RunStatus.COMPLETED)) is None
    assert came_too_late(pause, refused(RunStatus.COMPLETED)) is None


class Life(RuleBasedStateMachine):
    """Orders, starts and facts in any order: flags follow from orders alone, the status from the newest fact alone."""

    @initialize()
    def begin(self) -> None:
        self.flags, self.expected_flags = TaskControl(), (False, False)
        self.runs: list[TaskRun] = []
        self.facts: dict[int, dict[int, RunState]] = {}
        self.showing: TaskRun | None = None

    def task(self) -> Task:
        return task(self.status(), self.flags)

    def status(self) -> TaskStatus:
        return TaskStatus.READY if self.showing is None else shown(self.showing, PlanStatus.READY)

    def active(self) -> bool:
        return any(run.state not in OVER | {RunState.ASKED} for run in self.runs)

    @rule(action=st.sampled_from(TaskAction))
    def somebody_orders(self, action: TaskAction) -> None:
        if action in legal_actions(self.task(), self.active()):
            self.flags = flags_after(order(action), self.flags, NOW)
            self.expected_flags = (action is TaskAction.PAUSE, action is TaskAction.CANCEL)

    @rule()
    def somebody_starts(self) -> None:
        try:
            let_start(self.task())
        except Rejection:
            assert any(self.expected_flags)
            return
        assert not any(self.expected_flags)
        self.runs.append(TaskRun(uuid4(), ordinal=len(self.runs), state=RunState.ASKED))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def the_executor_accepts(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.runs) - 1))
        self.note(at, accepted(self.runs[at], at + 1))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), sequence=st.integers(1, 6))
    def a_fact_arrives(self, data: st.DataObject, sequence: int) -> None:
        at = data.draw(st.integers(0, len(self.runs) - 1))
        states = self.facts.setdefault(at, {})
        state = states.setdefault(sequence, data.draw(st.sampled_from([*OVER, RunState.RUNNING, RunState.PAUSED])))
        if (news := told(self.runs[at], state, sequence, at + 1)) is not None:
            self.note(at, news)

    def note(self, at: int, run: TaskRun) -> None:
        self.runs[at] = run
        if is_latest(run, self.showing):
            self.showing = run

    @invariant()
    def flags_are_what_was_last_ordered(self) -> None:
        assert (self.flags.pause, self.flags.cancel) == self.expected_flags

    @invariant()
    def the_status_is_that_of_the_newest_fact_of_the_latest_run(self) -> None:
        confirmed = [run for run in self.runs if run.state is not RunState.ASKED]
        if confirmed:
            latest = max(confirmed, key=lambda run: run.ordinal)
            known = self.facts.get(latest.ordinal)
            state = known[max(known)] if known else RunState.ACCEPTED
            assert self.status() is shown(TaskRun(latest.run_id, 0, state), PlanStatus.READY)


TestLife = Life.TestCase


# dependencies


@st.composite
def graphs(draw: st.DrawFn) -> dict[UUID, set[UUID]]:
    """What waits for what, without cycles: only tasks later in the list wait for earlier ones."""
    return {IDS[at]: draw(st.sets(st.sampled_from(IDS[:at]), max_size=3)) if at else set() for at in range(len(IDS))}


def reaches(needs: Mapping[UUID, set[UUID]], start: UUID, goal: UUID) -> bool:
    return start == goal or any(reaches(needs, dep, goal) for dep in needs.get(start, ()))


@given(graphs(), st.sampled_from(IDS), st.lists(st.sampled_from(IDS), min_size=1, max_size=3))
def test_a_cycle_is_found_exactly_when_something_added_leads_back(
    needs: dict[UUID, set[UUID]], waiting: UUID, added: list[UUID]
) -> None:
    found = cycle(needs, waiting, added)
    assert bool(found) == any(reaches(needs, dep, waiting) for dep in added)
    if not found:
        return
    grown = {**needs, waiting: needs[waiting] | set(added)}
    assert found[0] == waiting
    assert len(set(found)) == len(found)
    assert all(later in grown[one] for one, later in zip(found, [*found[1:], found[0]], strict=True))


@given(st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)), max_size=60))
def test_what_is_added_one_by_one_can_always_be_done_in_some_order(edges: list[tuple[UUID, UUID]]) -> None:
    needs: dict[UUID, set[UUID]] = {}
    for one, other in edges:
        if not cycle(needs, one, [other]):
            needs.setdefault(one, set()).add(other)
    TopologicalSorter(needs).prepare()


def test_a_long_chain_neither_exhausts_the_stack_nor_floods_the_message() -> None:
    ids = [UUID(int=n) for n in range(5_000)]
    needs = {one: [other] for one, other in zip(ids[1:], ids, strict=False)}
    with pytest.raises(Rejection) as refused:
        refuse_cycle(needs, ids[0], [ids[-1]], {ids[0]: "first"})
    assert len(refused.value.failure.details["cycle"]) == 5_000
    assert str(refused.value).startswith("these tasks would wait for each other: 'first' → ")
    assert str(refused.value).endswith("… → 'first'")


# drift


@pytest.mark.parametrize("status", RunStatus)
@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.REFUSED}))
def test_the_executors_word_is_taken_and_a_difference_is_counted(state: RunState, status: RunStatus) -> None:
    run = TaskRun(IDS[1], 1, state, sequence=4)
    repair = mended(run, known_run(KnownRun(start_order(IDS[1]), status)))
    assert (repair.run.state, repair.run.sequence) == (STATE[status], 4)
    assert (repair.fix is None) == (STATE[status] is state)


def test_a_run_the_executor_does_not_know_was_never_started_or_is_lost() -> None:
    asked, running = TaskRun(IDS[1], 1, RunState.ASKED), TaskRun(IDS[1], 1, RunState.RUNNING)
    assert (mended(asked, None).run.state, mended(asked, None).fix) == (RunState.REFUSED, None)
    assert (mended(running, None).run.state, mended(running, None).fix) == (RunState.FAILED, Fix.RUN_GONE)


# further runs


def test_a_further_run_of_a_launched_task_keeps_what_it_was_launched_with() -> None:
    launched = Terms.model_validate(
        {"run_id": IDS[1], "options": {"dry_run": True, "node_timeout_s": 5}, "params": {"a": 1}}
    )
    again = another(IDS[2], launched, request_id="r", origin="retry")
    assert (again.run_id, again.options.dry_run, again.options.node_timeout_s) == (IDS[2], False, 5)
    assert (again.params, again.meta) == ({"a": 1}, {"request_id": "r", "origin": "retry"})
    assert another(IDS[2], None).options.node_timeout_s is None
