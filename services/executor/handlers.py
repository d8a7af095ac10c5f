"""Answers the executor's requests. Orders commit rows and ring; only a run's owner moves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context, current_traceparent
from chassis.llm.call import ModelFailure
from chassis.llm.models import Models
from chassis.postgres import Connection
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.executor import (
    ControlRun,
    DescribeLlm,
    GetNode,
    GetRun,
    ListNodes,
    ListRuns,
    LlmConfig,
    Node,
    NodeDetail,
    Run,
    RunAction,
    RunControlled,
    RunDetail,
    RunNode,
    RunQueued,
    RunStartedAnswer,
    RunStatus,
    StartRun,
)
from contracts.page import Page
from contracts.plan import NodeKind
from services.executor import store
from services.executor.domain.control import ASKED_FOR, WANTS, judge
from services.executor.domain.graph import check
from services.executor.store import RunStore


class Executor:
    def __init__(self, uow: UnitOfWork, runs: RunStore, bus: Bus, models: Models) -> None:
        self._uow = uow
        self._runs = runs
        self._bus = bus
        self._models = models

    # orders

    async def start_run(self, request: StartRun, context: Context) -> RunStartedAnswer:
        """Raises Rejection(run_active) with the active run's id, or Rejection(invalid)."""
        _check(request)
        nodes = [self._settled(_folded(node, request)) for node in request.nodes]
        story = replace(context, causation_id=str(request.command_id), traceparent=_trace(context))
        async with self._uow.order(request, context) as tx:
            if await self._is_new(tx.conn, request, nodes, story):
                tx.publish(_queued(request))
                tx.after_commit(lambda: self._ring(request.run_id))
            return tx.answer(RunStartedAnswer(run_id=request.run_id))

    def _settled(self, node: RunNode) -> RunNode:
        """With provider and model named: a run that is taken up after a restart must not change them on its way."""
        if node.kind is NodeKind.NOOP:
            return node
        try:
            choice = self._models.choose(node.llm_backend, node.llm_model)
        except ModelFailure:
            return node  # its attempt fails with the reason
        return node.model_copy(update={"llm_backend": choice.provider, "llm_model": choice.model})

    async def _is_new(
        self, connection: Connection, request: StartRun, nodes: Sequence[RunNode], story: Context
    ) -> bool:
        """False when the run is there already: whoever asks again under another command id means the same run."""
        for _ in range(3):  # the run that was in the way may end before we can name it
            if await store.insert_run(connection, request, nodes, story):
                return True
            if await store.exists(connection, request.company, request.run_id):
                return False
            if (active := await store.active_run(connection, request.company, request.task_id)) is not None:
                raise Rejection(Code.RUN_ACTIVE, f"run {active} of this task is still active", run_id=str(active))
        raise Rejection(Code.INVALID, f"the run id {request.run_id} is taken; send a fresh UUID")

    async def control_run(self, request: ControlRun, context: Context) -> RunControlled:
        """Raises Rejection(not_found), (illegal_state) or (nothing_to_skip)."""
        action, skipping = request.action, request.action is RunAction.SKIP_FAILED_AND_RESUME
        async with self._uow.order(request, context) as tx:
            standing = await store.lock_run(tx.conn, request.company, request.run_id)
            if standing is None:
                raise Rejection(Code.NOT_FOUND, f"there is no run {request.run_id}")
            failed = await store.failed_nodes(tx.conn, request.run_id) if skipping else []
            state = RunStatus.RUNNING if standing.reopening else standing.status
            if judge(action, state, standing.wanted, len(failed)):
                await store.leave_order(tx.conn, request.run_id, action, WANTS[action])
                tx.after_commit(lambda: self._ring(request.run_id))
            return tx.answer(
                RunControlled(
                    status=ASKED_FOR[action], actual=standing.status, wanted=WANTS[action], skipped_nodes=failed
                )
            )

    async def _ring(self, run_id: UUID) -> None:
        await self._bus.ring("run", str(run_id).encode())

    # questions

    async def get_run(self, request: GetRun, _: Context) -> RunDetail:
        async with self._runs.snapshot() as moment:
            run = await self._runs.run(moment, request.company, request.run_id)
            summary = await self._runs.summary(moment, run)
            nodes = await self._runs.nodes(moment, run.id) if request.include_nodes else None
        return RunDetail(run=run, summary=summary, nodes=nodes)

    async def list_runs(self, request: ListRuns, _: Context) -> Page[Run]:
        async with self._runs.snapshot() as moment:
            items, total = await self._runs.list_runs(moment, request)
        return Page(items=items, total=total)

    async def get_node(self, request: GetNode, _: Context) -> NodeDetail:
        return await self._runs.node(request.company, request.node_id)

    async def list_nodes(self, request: ListNodes, _: Context) -> Page[Node]:
        async with self._runs.snapshot() as moment:
            await self._runs.run(moment, request.company, request.run_id)
            items, total = await self._runs.list_nodes(moment, request)
        return Page(items=items, total=total)

    async def describe_llm(self, _: DescribeLlm, __: Context) -> LlmConfig:
        return LlmConfig.model_validate(self._models.describe().model_dump())


def _queued(request: StartRun) -> RunQueued:
    return RunQueued(
        company=request.company,
        run_id=request.run_id,
        task_id=request.task_id,
        title=request.title,
        nodes=len(request.nodes),
    )


def _check(request: StartRun) -> None:
    if request.run_id.version != 4:
        message = f"run_id must be a UUID of version 4, not {request.run_id}"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["run_id"], "msg": message}])
    check([(node.key, node.deps) for node in request.nodes])


def _folded(node: RunNode, request: StartRun) -> RunNode:
    """A node's own limits come before those of its run."""
    return node.model_copy(
        update={
            "timeout_s": node.timeout_s or request.node_timeout_s,
            "max_attempts": node.max_attempts or request.max_attempts,
        }
    )


def _trace(context: Context) -> str:
    return current_traceparent() or context.traceparent
