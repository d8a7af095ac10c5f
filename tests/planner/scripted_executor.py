"""An executor that keeps the real one's promises and fails as a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from chassis.context import Context
from chassis.service import Chassis
from contracts import run_facts
from contracts.budgets import Reserved, ReserveSpend, Settled, SettleSpend, Shortage
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import (
    ControlRun,
    GetRun,
    Run,
    RunAction,
    RunControlled,
    RunDetail,
    RunStartedAnswer,
    RunStatus,
    RunSummary,
    StartRun,
    Wanted,
)
from contracts.plan import Gate
from contracts.planner import Task
from contracts.run_facts import RunFact

WANTS = {RunAction.PAUSE: Wanted.PAUSE, RunAction.RESUME: Wanted.RUN, RunAction.CANCEL: Wanted.CANCEL}
ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED})


@dataclass
class KnownRun:
    order: StartRun
    status: RunStatus = RunStatus.RUNNING
    wanted: Wanted = Wanted.RUN
    nodes_completed: int = 0
    error: str | None = None


@dataclass
class ScriptedExecutor:
    """Keeps the executor's promises (one order one answer, one active run per task) and fails as told."""

    asked: list[StartRun] = field(default_factory=list)
    active: dict[UUID | None, UUID] = field(default_factory=dict)
    answered: dict[UUID, UUID] = field(default_factory=dict)
    refusal: Rejection | None = None
    loses_answers: bool = False
    takes: float = 0.0  # seconds; who repeats the order meanwhile hears that it is in flight
    in_flight: set[UUID] = field(default_factory=set)
    chassis: Chassis | None = None
    runs: dict[UUID, KnownRun] = field(default_factory=dict)
    controlled: list[ControlRun] = field(default_factory=list)  # each order once
    control_is_away: bool = False  # nobody answers ControlRun
    during_control: Callable[[], Awaitable[None]] | None = None  # done once, while a ControlRun is being answered
    looked_at: list[UUID] = field(default_factory=list)
    before_answer: Callable[[], Awaitable[None]] | None = None  # done when GetRun knows its answer, before it is sent
    has_budget: bool = False
    shortage: Shortage | None = None  # of the budget; nothing is granted meanwhile
    grants: int = 0  # reservations that are granted before there is the shortage
    refuses_to_settle: Exception | None = None
    reserved: list[ReserveSpend] = field(default_factory=list)
    settled: list[SettleSpend] = field(default_factory=list)
    before_start: asyncio.Event | None = None  # set when a start has arrived, which then waits for `go`
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def build(self, chassis: Chassis) -> None:
        self.chassis = chassis
        chassis.bus.serve(StartRun, self.start)
        chassis.bus.serve(ControlRun, self.control)
        chassis.bus.serve(GetRun, self.get)
        chassis.bus.serve(ReserveSpend, self.reserve)
        chassis.bus.serve(SettleSpend, self.settle)

    async def reserve(self, request: ReserveSpend, _: Context) -> Reserved:
        """Nothing is in force unless `has_budget`; nothing is granted while there is a `shortage`."""
        if self.shortage is not None and len(self.reserved) >= self.grants:
            raise Rejection(Code.OVER_BUDGET, self.shortage.said(), **self.shortage.model_dump(mode="json"))
        if not self.has_budget:
            return Reserved(reservation=None)
        self.reserved.append(request)
        return Reserved(reservation=request.command_id)

    async def settle(self, request: SettleSpend, _: Context) -> Settled:
        if self.refuses_to_settle is not None:
            raise self.refuses_to_settle
        self.settled.append(request)
        return Settled(was_open=True)

    async def control(self, order: ControlRun, _: Context) -> RunControlled:
        if self.control_is_away:
            raise RetryLater(0.05, "nobody is there")
        run = self._known(order.run_id)
        if order.command_id not in {earlier.command_id for earlier in self.controlled}:
            self._judge(order, run)
            self.controlled.append(order)
            run.wanted = WANTS[order.action]
        if self.during_control is not None:
            during, self.during_control = self.during_control, None
            await during()
        return RunControlled(status=RunStatus.RUNNING, actual=run.status, wanted=run.wanted)

    def _judge(self, order: ControlRun, run: KnownRun) -> None:
        if run.status in ENDED or (run.wanted is Wanted.CANCEL and order.action is not RunAction.CANCEL):
            raise Rejection(Code.ILLEGAL_STATE, f"the run is {run.status}", state=run.status, legal=[])

    def _known(self, run_id: UUID) -> KnownRun:
        if run_id not in self.runs:
            raise Rejection(Code.NOT_FOUND, f"there is no run {run_id}")
        return self.runs[run_id]

    async def get(self, request: GetRun, _: Context) -> RunDetail:
        self.looked_at.append(request.run_id)
        known = self._known(request.run_id)
        answer = RunDetail(run=known_run(known), summary=_summary(known), nodes=None)
        if self.before_answer is not None:
            await self.before_answer()
        return answer

    def end(self, run_id: UUID, status: RunStatus = RunStatus.COMPLETED, nodes_completed: int = 0) -> None:
        known = self.runs[run_id]
        known.status, known.nodes_completed = status, nodes_completed
        self.active.pop(known.order.task_id, None)

    def actions(self, run_id: UUID) -> list[RunAction]:
        return [order.action for order in self.controlled if order.run_id == run_id]

    async def start(self, order: StartRun, _: Context) -> RunStartedAnswer:
        if order.command_id in self.in_flight:
            raise Rejection(Code.IN_FLIGHT, "the same request is being answered right now")
        self.in_flight.add(order.command_id)
        try:
            await asyncio.sleep(self.takes)
            if self.before_start is not None:
                self.before_start.set()
                await self.go.wait()
            return self._answer(order)
        finally:
            self.in_flight.discard(order.command_id)

    def _answer(self, order: StartRun) -> RunStartedAnswer:
        self.asked.append(order)
        if self.refusal is not None:
            raise self.refusal
        if order.command_id not in self.answered:
            if (active := self.active.get(order.task_id)) is not None:
                raise Rejection(Code.RUN_ACTIVE, "this task has an active run", run_id=str(active))
            self.active[order.task_id] = self.answered[order.command_id] = order.run_id
            self.runs[order.run_id] = KnownRun(order)
        if self.loses_answers:
            raise RetryLater(0.1, "the answer got lost")
        return RunStartedAnswer(run_id=self.answered[order.command_id])

    async def tell(self, *facts: RunFact) -> None:
        assert self.chassis is not None
        async with self.chassis.uow.begin() as tx:
            tx.publish(*facts)


def known_run(known: KnownRun) -> Run:
    order = known.order
    return Run(
        id=order.run_id,
        company_id=order.company,
        project_id=order.project,
        task_id=order.task_id,
        plan_id=order.plan_id,
        title=order.title,
        status=known.status,
        wanted=known.wanted,
        pause_reasons=[],
        gate=Gate.OFF,
        dry_run=order.dry_run,
        error=known.error,
        request_id="",
        meta={},
        created_at=datetime.now(UTC),
        started_at=None,
        ended_at=None,
    )


def start_order(run_id: UUID) -> StartRun:
    node = {"key": "a", "title": "A"}
    return StartRun.model_validate({"command_id": uuid4(), "run_id": run_id, "title": "t", "nodes": [node]})


def _summary(known: KnownRun) -> RunSummary:
    zero = {name: 0 for name, field in RunSummary.model_fields.items() if field.is_required()}
    return RunSummary.model_validate(zero | {"nodes_completed": known.nodes_completed, "cost_usd": None})


ENDED_BY: dict[type[RunFact], RunStatus] = {
    run_facts.RunCompleted: RunStatus.COMPLETED,
    run_facts.RunFailed: RunStatus.FAILED,
    run_facts.RunCanceled: RunStatus.CANCELED,
}


def fact(kind: type[RunFact], task: Task, run_id: UUID) -> RunFact:
    more = {
        run_facts.RunPaused: {"reasons": ["control"]},
        run_facts.RunCompleted: {"nodes_completed": 1, "nodes_skipped": 0, "cost_usd": "0", "tokens": 0},
        run_facts.RunFailed: {"reason": "node a failed", "failed_nodes": ["a"]},
    }
    return kind(company=task.company_id, run_id=run_id, task_id=task.id, title=task.title, **more.get(kind, {}))
