"""Starts runs and answers questions about them. Orders to those that exist are in steering/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from asyncpg import Record

from chassis.bus import Bus
from chassis.context import Context, current_traceparent
from chassis.llm.call import ModelFailure
from chassis.llm.models import Models
from chassis.postgres import Connection
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.executor import (
    DescribeLlm,
    GetNode,
    GetRun,
    ListNodes,
    ListRuns,
    LlmConfig,
    Node,
    NodeDetail,
    Run,
    RunDetail,
    RunNode,
    RunStartedAnswer,
    StartRun,
)
from contracts.page import Page
from contracts.plan import Gate, NodeKind
from contracts.run_control import ExplainWaiting, GetRuntime, Runtime, WaitingFor
from contracts.run_facts import RunQueued
from contracts.sidecar_requests import GetSidecar, ListSidecars, SidecarDocument
from services.executor.domain.graph import check
from services.executor.domain.names import ids_of_nodes
from services.executor.domain.waiting import explained
from services.executor.engine.inbox import Newcomer
from services.executor.explaining import store as explaining
from services.executor.starting import results
from services.executor.starting import store as starting
from services.executor.store import RunStore


class Executor:
    """`welcome` is called when a run is committed that an executor should take up."""

    def __init__(
        self,
        uow: UnitOfWork,
        runs: RunStore,
        bus: Bus,
        models: Models,
        welcome: Callable[[Newcomer], None],
        default_gate: Gate,
    ) -> None:
        self._uow = uow
        self._runs = runs
        self._bus = bus
        self._models = models
        self._welcome = welcome
        self._default_gate = default_gate

    # orders

    async def start_run(self, request: StartRun, context: Context) -> RunStartedAnswer:
        """Raises Rejection(run_active) with the active run's id, or Rejection(invalid)."""
        _check(request)
        ids = ids_of_nodes(request.run_id, len(request.nodes))
        settled = (self._settled(_folded(node, request)).model_dump(mode="json") for node in request.nodes)
        specs = dict(zip(ids, settled, strict=True))
        story = replace(context, causation_id=str(request.command_id), traceparent=_trace(context))
        async with self._uow.order(request, context) as tx:
            earlier = await results.source(tx.conn, request)
            gated = request.model_copy(update={"gate": request.gate or self._default_gate})
            if (row := await _inserted(tx.conn, gated, story)) is not None:
                reused = await results.taken_over(tx.conn, request, earlier, specs.values())
                nodes = await starting.insert_nodes(tx.conn, request, specs, reused)
                tx.publish(_queued(request, row["activation"]), *results.told(request, specs, reused))
                tx.after_commit(partial(self._begin, Newcomer(row, nodes)))
            activation = row["activation"] if row else await starting.activation_of(tx.conn, request.run_id)
            return tx.answer(RunStartedAnswer(run_id=request.run_id, activation=activation))

    async def _begin(self, run: Newcomer) -> None:
        """Here at once, without the way over the bus; the others look a little later whether it was taken."""
        self._welcome(run)
        await self._bus.ring("queued")

    def _settled(self, node: RunNode) -> RunNode:
        """With provider and model named: a run that is taken up after a restart must not change them on its way."""
        if node.kind is NodeKind.NOOP:
            return node
        try:
            choice = self._models.choose(node.llm_backend, node.llm_model)
        except ModelFailure:
            return node  # its attempt fails with the reason
        return node.model_copy(update={"llm_backend": choice.provider, "llm_model": choice.model})

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

    async def list_sidecars(self, request: ListSidecars, _: Context) -> Page[SidecarDocument]:
        async with self._runs.snapshot() as moment:
            await self._runs.run(moment, request.company, request.run_id)
            items, total = await self._runs.list_sidecars(moment, request)
        return Page(items=items, total=total)

    async def get_sidecar(self, request: GetSidecar, _: Context) -> SidecarDocument:
        node = await self._runs.node(request.company, request.node_id)
        found = await self._runs.sidecar(node.id, request.attempt, request.call)
        if found is None:
            raise Rejection(Code.NOT_FOUND, _no_sidecar(node, request))
        return found

    async def explain_waiting(self, request: ExplainWaiting, _: Context) -> WaitingFor:
        async with self._runs.snapshot() as moment:
            return explained(await explaining.scene(moment, request.company, request.run_id))

    async def get_runtime(self, request: GetRuntime, _: Context) -> Runtime:
        async with self._runs.snapshot() as moment:
            return await explaining.runtime(moment, request.company, request.run_id)

    async def describe_llm(self, _: DescribeLlm, __: Context) -> LlmConfig:
        return LlmConfig.model_validate(self._models.describe().model_dump())


async def _inserted(connection: Connection, request: StartRun, story: Context) -> Record | None:
    """None when the run is there already: whoever asks again under another command id means the same run."""
    for _ in range(3):  # the run that was in the way may end before we can name it
        if (row := await starting.insert_run(connection, request, story)) is not None:
            return row
        if await starting.exists(connection, request.company, request.run_id):
            return None
        if (active := await starting.active_run(connection, request.company, request.task_id)) is not None:
            raise Rejection(Code.RUN_ACTIVE, f"run {active} of this task is still active", run_id=str(active))
    raise Rejection(Code.INVALID, f"the run id {request.run_id} is taken; send a fresh UUID")


def _no_sidecar(node: Node, request: GetSidecar) -> str:
    if node.reused_from is not None:
        return f"node {node.id} called no model: its result was taken over from node {node.reused_from}"
    if request.attempt is None and request.call is None:
        return f"node {node.id} has called no model so far"
    return (
        f"node {node.id} has no such model call; GET /runs/{node.run_id}/sidecars?node_id={node.id} lists those it has"
    )


def _queued(request: StartRun, activation: int) -> RunQueued:
    return RunQueued(
        company=request.company,
        run_id=request.run_id,
        task_id=request.task_id,
        title=request.title,
        nodes=len(request.nodes),
        activation=activation,
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
