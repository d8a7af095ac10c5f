"""Drafting: the request for a plan, and the job that gets one from the supervisor and starts what was to be started."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from chassis.context import Context
from chassis.job_table import Job, JobState, NotYet
from chassis.jobs import Jobs
from chassis.llm.call import ModelFailure
from chassis.llm.models import Models
from chassis.llm.remote_purse import RemotePurse, RemotePurses
from chassis.llm.spending import OverBudget
from chassis.postgres import Pool
from chassis.unit_of_work import Answered, Tx, UnitOfWork
from contracts.budgets import Payer
from contracts.errors import Code, Rejection, RetryLater
from contracts.planner import DraftPlan, PlanDrafted, PlanRetried, PlanStatus, PlanVersion, RunOptions, Task
from services.planner.adapters.drafting import Supervisor
from services.planner.domain.drafted import Call, Draft, spent
from services.planner.domain.source import Brief, DraftOrder
from services.planner.domain.task import launch_is_pending
from services.planner.handlers.auto_start import AutoStart
from services.planner.handlers.effects import add_version, fail_launch, locked, unknown_task
from services.planner.settings import PlannerSettings
from services.planner.store.draft_calls import DraftCallStore
from services.planner.store.plans import NewVersion, PlanStore
from services.planner.store.tasks import TaskStore

KIND = "draft"
ATTEMPTS = 40  # of a job, whatever stops it; a provider that does not answer gets fewer
LONGEST_DELAY = 600.0  # seconds a provider's Retry-After may put a draft off
FIRST_LOOK_FOR_MONEY = 2.0  # seconds until a draft that no budget bore is tried again; doubles
LONGEST_ABSENCE = 10.0  # seconds between tries while the owner of the budgets is away
LOOK_FOR_MONEY = 60.0  # seconds between tries after a while


def delay_before(attempt: int, retry_after: float | None = None) -> float:
    """Full jitter under a doubling ceiling; what the provider named is respected."""
    return min(retry_after, LONGEST_DELAY) if retry_after else random.uniform(0.5, min(30.0, 2.0**attempt))


async def enqueue(tx: Tx, jobs: Jobs, task: Task, order: DraftOrder) -> UUID:
    """The task's drafting job; the one under way, if there is one."""
    payload = order.model_dump(mode="json")
    job_id = await jobs.enqueue(tx, KIND, str(task.id), payload, company=task.company_id)
    await TaskStore(tx.conn).set_job(task.id, job_id)
    return job_id


class Drafting:
    def __init__(
        self,
        uow: UnitOfWork,
        pool: Pool,
        jobs: Jobs,
        models: Models,
        supervisor: Supervisor,
        purses: RemotePurses,
        auto_start: AutoStart,
        settings: PlannerSettings,
    ) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._models = models
        self._supervisor = supervisor
        self._purses = purses
        self._auto_start = auto_start
        self._settings = settings

    # the request

    async def draft(self, request: DraftPlan, context: Context) -> PlanDrafted:
        """Waits for the plan; a repeat, and anyone else who asks meanwhile, joins the running job."""
        try:
            async with self._uow.order(request, context) as tx:
                task = (await locked(tx, request.company, request.task_id)).task
                order = DraftOrder(brief=Brief(title=task.title, description=task.description))
                job_id = await enqueue(tx, self._jobs, task, order)
                pending = tx.answer(PlanDrafted(plan_id=task.plan_id, status=None, pending=True, job_id=job_id))
        except Answered as before:
            pending = PlanDrafted.model_validate(before.answer)
        assert pending.job_id is not None, "stored above"
        return await self._outcome(pending, await self._jobs.wait(pending.job_id, self._settings.draft_wait))

    async def _outcome(self, pending: PlanDrafted, state: JobState) -> PlanDrafted:
        assert pending.job_id is not None, "a draft is always a job's"
        version = await PlanStore(self._pool).version_of_job(pending.job_id)
        if version is not None:
            fields = version.model_dump(include={"plan_id", "status", "version", "errors"})
            return PlanDrafted(**fields, graph=version.graph, job_id=pending.job_id)
        if state.state == "failed":
            raise refusal_of(state)
        return pending.model_copy(update={"errors": [state.error] if state.error else []})

    # the job

    async def work(self, job: Job) -> None:
        try:
            await self._draft_and_start(job, DraftOrder.model_validate(job.payload))
        except Rejection as refusal:
            await self._give_up(job, str(refusal))
            raise
        except NotYet:
            raise
        except Exception as error:
            if job.attempt >= ATTEMPTS:
                await self._give_up(job, str(error))
            raise

    async def _draft_and_start(self, job: Job, order: DraftOrder) -> None:
        version = await PlanStore(self._pool).version_of_job(job.id) or await self._draft(job, order)
        result = {"plan_id": str(version.plan_id), "version": version.version, "status": version.status}
        if version.status is PlanStatus.READY:
            run_id = await self._auto_start.start(job.company, UUID(job.ref), job.context)
            result |= {"run_id": str(run_id)} if run_id else {}
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, result)

    async def _draft(self, job: Job, order: DraftOrder) -> PlanVersion:
        options = order.terms.options if order.terms else RunOptions()
        purse, calls = await self._purse(job), DraftCallStore(self._pool)
        try:
            choice = self._models.choose(options.llm_backend, options.llm_model)
            before, keep = await calls.calls(job.id), partial(calls.keep, job.id)
            draft = await self._supervisor.draft(order.brief, choice, purse, before, keep)
        except RetryLater as away:  # who knows whether a budget bears it
            raise NotYet(min(2.0 ** min(job.waits, 20), LONGEST_ABSENCE), str(away)) from None
        except ModelFailure as failure:
            draft = await self._without_answer(job, failure, await calls.calls(job.id))
        return await self._record(job, draft)

    async def _purse(self, job: Job) -> RemotePurse:
        """Raises Rejection when nobody wants the plan any more: a model is not to be paid for it."""
        task_id = UUID(job.ref)
        row = await TaskStore(self._pool).task(job.company, task_id)
        if row is None:
            raise unknown_task(task_id)
        if job.waits and row.task.control.cancel:
            raise Rejection(Code.CANCELED, "the task was canceled while its plan waited for money")
        return self._purses.of(job.company, Payer(project=row.task.project_id, task_id=task_id), job.context)

    async def _without_answer(self, job: Job, failure: ModelFailure, calls: Sequence[Call]) -> Draft:
        """What waiting cannot cure makes the plan invalid, with the reason; the rest is tried again for a while, and money
        is waited for however long that takes."""
        if isinstance(failure, OverBudget):
            delay = min(FIRST_LOOK_FOR_MONEY * 2.0 ** min(job.waits, 20), LOOK_FOR_MONEY)
            if delay < LOOK_FOR_MONEY:  # then it has been said, and why
                await self._tell(job, failure, delay)
            raise NotYet(delay, failure.message)
        if not failure.retriable:
            return Draft(None, "supervisor", errors=(failure.message,), **spent(calls))
        if job.attempt < self._settings.draft_attempts:
            delay = delay_before(job.attempt, failure.retry_after)
            await self._tell(job, failure, delay)
            raise RetryLater(delay, failure.message)
        advice = "check the provider (fluidcrew doctor), then ask for the plan again"
        raise Rejection(Code.UNAVAILABLE, f"{failure.message}; gave up after {job.attempt} attempts: {advice}")

    async def _tell(self, job: Job, failure: ModelFailure, delay: float) -> None:
        """It is told as a fact: whoever watches shall see why nothing moves, and until when."""
        due_at = datetime.now(UTC) + timedelta(seconds=delay)
        fact = PlanRetried(
            company=job.company, task_id=UUID(job.ref), attempt=job.attempt, error=failure.message, due_at=due_at
        )
        async with self._uow.begin(job.context) as tx:
            tx.publish(fact)

    async def _record(self, job: Job, draft: Draft) -> PlanVersion:
        """One version per job: what an attempt that was taken for dead recorded meanwhile stands."""
        async with self._uow.begin(job.context) as tx:
            plans = PlanStore(tx.conn)
            task = (await locked(tx, job.company, UUID(job.ref))).task
            if (version := await plans.version_of_job(job.id)) is None:
                await add_version(tx, task, _version(draft, job.id), draft)
                version = await plans.version_of_job(job.id)
            assert version is not None, "it was added above"
            await DraftCallStore(tx.conn).forget(job.id)
            return version

    async def _give_up(self, job: Job, reason: str) -> None:
        async with self._uow.begin(job.context) as tx:
            row = await TaskStore(tx.conn).lock_task(job.company, UUID(job.ref))
            if row is not None and launch_is_pending(row.task):
                await fail_launch(tx, row.task, reason)


def _version(draft: Draft, job_id: UUID) -> NewVersion:
    status = PlanStatus.READY if draft.graph else PlanStatus.INVALID
    return NewVersion(status, draft.graph, draft.origin, draft.errors, draft.answer, job_id)


def refusal_of(state: JobState) -> Exception:
    """Why a job failed, as the error its caller gets."""
    failure = state.failure
    if failure is None or failure.code is Code.UNAVAILABLE:
        return RetryLater(30.0, failure.message if failure else str(state.error))
    refusal = Rejection(failure.code, failure.message)
    refusal.failure = failure
    return refusal
