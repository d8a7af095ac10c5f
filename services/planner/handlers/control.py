"""Orders to tasks: flags in the order's transaction, and a job that carries the latest of them to the task's runs.

The job reads what is wanted when it is about to say it, so that an order which another one replaced is never said late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context
from chassis.job_table import Job
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import Answered, Tx, UnitOfWork
from contracts.errors import Code, Failure, Rejection, RetryLater
from contracts.task_control import ControlTask, TaskAction, TaskControlAsked, TaskControlled
from services.planner.domain.control import Order, asked_for, came_too_late, control_run, flags_after, judge
from services.planner.domain.task import launch_is_pending
from services.planner.handlers.effects import locked
from services.planner.handlers.intents import again, carry_order, start_if_due
from services.planner.store.controls import Addressee, ControlStore
from services.planner.store.tasks import TaskRow, TaskStore

IN_FLIGHT_PAUSE = 0.2  # seconds


@dataclass(slots=True)
class Errand:
    """An order on its way to runs, and how far it got."""

    order: Order
    to: Sequence[Addressee]
    told: list[UUID] = field(default_factory=list)
    unknown: list[UUID] = field(default_factory=list)  # to the executor, which may yet be asked to start them
    refusal: Failure | None = None

    @property
    def result(self) -> dict[str, Any]:
        refusal = self.refusal and self.refusal.model_dump(mode="json")
        return {"order_id": str(self.order.id), "refusal": refusal}


class Control:
    """`wait`: seconds an answer waits for the executor to hear of the order. It will in any case."""

    def __init__(self, uow: UnitOfWork, pool: Pool, bus: Bus, jobs: Jobs, *, wait: float) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus
        self._jobs = jobs
        self._wait = wait

    # the order

    async def control(self, request: ControlTask, context: Context) -> TaskControlled:
        """Raises Rejection(not_found) or (illegal_state)."""
        try:
            async with self._uow.order(request, context) as tx:
                row = await locked(tx, request.company, request.task_id)
                answer = tx.answer(await self._take(tx, row, request))
                job_id = await self._pass_on(tx, row, request)
        except Answered as before:
            answer = TaskControlled.model_validate(before.answer)
            job_id = await ControlStore(self._pool).job_of(request.task_id)
        if job_id is not None:
            await self._carried(job_id, request.command_id)
        return answer

    async def _take(self, tx: Tx, row: TaskRow, request: ControlTask) -> TaskControlled:
        controls, task = ControlStore(tx.conn), row.task
        run_id = await controls.active_run(task.id)
        judge(request.action, task, run_id is not None)
        flags = flags_after(request, task.control, datetime.now(UTC))
        if flags is not task.control:
            await controls.set_flags(task.id, flags)
        if flags is not task.control or run_id is not None:
            tx.publish(_asked(row, request, run_id))
        if flags.cancel and launch_is_pending(task):
            await TaskStore(tx.conn).release_key(task.id)
        if not (flags.pause or flags.cancel):
            await start_if_due(tx, self._jobs, task.model_copy(update={"control": flags}))
        return TaskControlled(
            task_id=task.id,
            run_id=run_id,
            status=asked_for(request.action, task, run_id is not None),
            actual=task.status,
            control=flags,
        )

    async def _pass_on(self, tx: Tx, row: TaskRow, request: ControlTask) -> UUID | None:
        """The job that tells the runs there are; those that turn up later ask for the order themselves."""
        if request.action is TaskAction.RESET:
            return None
        controls = ControlStore(tx.conn)
        await controls.set_order(row.task.id, Order(request.command_id, request.action, request.mode, request.by))
        if not await controls.untold(row.task.id, request.command_id):
            return None
        await carry_order(tx, self._jobs, row.task)
        return await controls.job_of(row.task.id)

    async def _carried(self, job_id: UUID, order_id: UUID) -> None:
        result = (await self._jobs.wait(job_id, self._wait)).result or {}
        if result.get("order_id") == str(order_id) and result.get("refusal"):
            failure = Failure.model_validate(result["refusal"])
            refusal = Rejection(failure.code, failure.message)
            refusal.failure = failure
            raise refusal

    # the job

    async def work(self, job: Job) -> None:
        try:
            errand = None
            while (errand := await self._next_or_done(job, errand)) is not None:
                await self._say(errand, job)
        except RetryLater as away:
            raise again(job.attempt, away) from away

    async def _next_or_done(self, job: Job, last: Errand | None) -> Errand | None:
        """Ends under the task's lock: an order that comes later finds no job to join, and commits another one."""
        async with self._uow.begin(job.context) as tx:
            row = await TaskStore(tx.conn).lock_task(job.company, UUID(job.ref))
            controls = ControlStore(tx.conn)
            if last is not None:
                await controls.note_told(last.order.id, last.told)
            order = row.order if row else None
            known = last if last and order and last.order.id == order.id else None
            to = await controls.untold(UUID(job.ref), order.id) if order else []
            to = [run for run in to if run.confirmed or known is None or run.run_id not in known.unknown]
            if order is None or not to:
                await self._jobs.finish(tx, job, last.result if last else {})
                return None
            return Errand(order, to, unknown=known.unknown if known else [], refusal=known.refusal if known else None)

    async def _say(self, errand: Errand, job: Job) -> None:
        for run in errand.to:
            try:
                await self._bus.ask(control_run(job.company, run.run_id, errand.order), job.context)
            except Rejection as refusal:
                if refusal.failure.code is Code.IN_FLIGHT:
                    raise RetryLater(IN_FLIGHT_PAUSE, str(refusal)) from refusal
                if refusal.failure.code is Code.NOT_FOUND and not run.confirmed:
                    errand.unknown.append(run.run_id)
                    continue
                if (late := came_too_late(errand.order, refusal)) is not None:
                    errand.refusal = late.failure
            errand.told.append(run.run_id)


def _asked(row: TaskRow, request: ControlTask, run_id: UUID | None) -> TaskControlAsked:
    return TaskControlAsked(
        company=request.company,
        task_id=row.task.id,
        title=row.task.title,
        action=request.action,
        mode=request.mode,
        by=request.by,
        run_id=run_id,
    )
