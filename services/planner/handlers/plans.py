"""Plans: given, read, compared, judged, and who is assigned to their nodes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.context import Context
from chassis.jobs import Jobs
from chassis.llm.models import Models
from chassis.postgres import Pool
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.plan import Assignment, PlanGraph
from contracts.planner import (
    AssignmentsSaved,
    AssignNodes,
    AutoAssign,
    CreatePlan,
    DiffPlan,
    GetPlan,
    GetPlanVersion,
    ListPlanVersions,
    Plan,
    PlanAssigned,
    PlanDiff,
    PlanRejected,
    PlanStatus,
    PlanValidated,
    PlanVersion,
    SubmitForValidation,
    Task,
    Validated,
)
from services.planner.domain.assignment import recruited, unknown_nodes
from services.planner.domain.diff import diff
from services.planner.domain.facts import portions, shortened
from services.planner.domain.graph import sound
from services.planner.domain.task import after_planning
from services.planner.handlers.effects import add_version, locked, move
from services.planner.handlers.intents import start_if_due
from services.planner.store.plans import NewVersion, PlanStore
from services.planner.store.tasks import TaskRow, TaskStore


class Plans:
    def __init__(self, uow: UnitOfWork, pool: Pool, jobs: Jobs, models: Models) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._models = models

    async def create(self, request: CreatePlan, context: Context) -> Plan:
        graph, status = sound(request.graph), request.status or PlanStatus.READY
        if status is PlanStatus.INVALID:
            raise Rejection(
                Code.INVALID, "a plan is given as draft or ready", errors=["status: must be draft or ready"]
            )
        async with self._uow.order(request, context) as tx:
            task = (await locked(tx, request.company, request.task_id)).task
            plan_id, _ = await add_version(tx, task, NewVersion(status, graph, "explicit"))
            await self._start_if_due(tx, task)
            return tx.answer(_found(await PlanStore(tx.conn).plan(request.company, plan_id), plan_id))

    async def get(self, request: GetPlan, _: Context) -> Plan:
        return _found(await PlanStore(self._pool).plan(request.company, request.plan_id), request.plan_id)

    async def versions(self, request: ListPlanVersions, context: Context) -> Page[PlanVersion]:
        await self.get(GetPlan(company=request.company, plan_id=request.plan_id), context)
        return await PlanStore(self._pool).versions(request)

    async def version(self, request: GetPlanVersion, _: Context) -> PlanVersion:
        return await self._version(request.company, request.plan_id, request.version)

    async def diff(self, request: DiffPlan, _: Context) -> PlanDiff:
        current = await self._version(request.company, request.plan_id, request.version)
        if request.previous is None and request.version == 1:
            raise Rejection(Code.NOT_FOUND, "version 1 is the first: there is none before it to compare with")
        previous = await self._version(request.company, request.plan_id, request.previous or request.version - 1)
        return diff(request.plan_id, (previous.version, previous.graph), (current.version, current.graph))

    async def _version(self, company: str, plan_id: UUID, version: int) -> PlanVersion:
        found = await PlanStore(self._pool).version(company, plan_id, version)
        if found is None:
            raise Rejection(Code.NOT_FOUND, f"plan {plan_id} has no version {version}")
        return found

    async def submit_for_validation(self, request: SubmitForValidation, context: Context) -> Validated:
        async with self._uow.order(request, context) as tx:
            row, plan, _ = await self._opened(tx, request)
            status = PlanStatus.READY if request.validated else PlanStatus.DRAFT
            errors = [] if request.validated else request.errors or ["rejected without a reason"]
            await PlanStore(tx.conn).judge_plan(plan.id, status, errors)
            about = {"company": request.company, "task_id": plan.task_id, "plan_id": plan.id, "version": plan.version}
            tx.publish(PlanValidated(**about) if request.validated else PlanRejected(**about, errors=shortened(errors)))
            await move(tx, row.task, after_planning(row.task.status, status))
            await self._start_if_due(tx, row.task)
            return tx.answer(Validated(plan_id=plan.id, validated=request.validated, errors=errors))

    async def _start_if_due(self, tx: Tx, task: Task) -> None:
        await start_if_due(tx, self._jobs, (await locked(tx, task.company_id, task.id)).task)

    async def assign(self, request: AssignNodes, context: Context) -> AssignmentsSaved:
        items = list({item.node_id: item for item in request.items}.values())  # the last word about a node counts
        async with self._uow.order(request, context) as tx:
            _, plan, graph = await self._opened(tx, request)
            if unknown := unknown_nodes(graph, items):
                raise Rejection(
                    Code.INVALID,
                    f"the plan has no node {', '.join(map(repr, unknown))}",
                    errors=[f"items: node {key!r} is not in the plan" for key in unknown],
                )
            return tx.answer(await self._save(tx, request.company, plan, items))

    async def auto_assign(self, request: AutoAssign, context: Context) -> AssignmentsSaved:
        default = self._models.choose(None, None)
        async with self._uow.order(request, context) as tx:
            _, plan, graph = await self._opened(tx, request)
            items = recruited(graph, plan.assignments, default.provider, default.model)
            return tx.answer(await self._save(tx, request.company, plan, items))

    async def _opened(
        self, tx: Tx, request: SubmitForValidation | AssignNodes | AutoAssign
    ) -> tuple[TaskRow, Plan, PlanGraph]:
        """A plan that can be worked on, with its task held. Raises Rejection when there is no graph to work on."""
        row = await TaskStore(tx.conn).lock_plan_task(request.company, request.plan_id)
        plan = _found(await PlanStore(tx.conn).plan(request.company, request.plan_id) if row else None, request.plan_id)
        assert row is not None, "_found raised otherwise"
        if plan.graph is None or plan.status is PlanStatus.INVALID:
            raise Rejection(
                Code.ILLEGAL_STATE,
                "this plan is invalid: draft it again, or post a corrected one to /plans",
                state=plan.status,
                legal=[PlanStatus.DRAFT, PlanStatus.READY],
                errors=plan.errors,
            )
        return row, plan, plan.graph

    async def _save(self, tx: Tx, company: str, plan: Plan, items: Sequence[Assignment]) -> AssignmentsSaved:
        plans = PlanStore(tx.conn)
        created = await plans.assign(company, plan.id, items)
        about = {"company": company, "task_id": plan.task_id, "plan_id": plan.id, "version": plan.version}
        tx.publish(*(PlanAssigned(**about, items=portion) for portion in portions(items)))
        saved = _found(await plans.plan(company, plan.id), plan.id).assignments
        return AssignmentsSaved(created=created, updated=len(items) - created, items=saved)


def _found(plan: Plan | None, id: UUID) -> Plan:
    if plan is None:
        raise Rejection(Code.NOT_FOUND, f"there is no plan {id}")
    return plan
