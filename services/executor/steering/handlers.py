"""Answers the orders to runs and nodes. They commit rows and ring; only a run's owner moves it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context
from chassis.llm.call import ModelFailure
from chassis.llm.models import Models
from chassis.postgres import Connection
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection
from contracts.executor import ControlMode, ControlRun, NodeStatus, RunAction, RunControlled, Wanted
from contracts.review import NodeRerun, RerunNode
from contracts.run_control import ControlNode, NodeAction, NodeControlled
from contracts.run_facts import NodeControlAsked, NodeRerunAsked, RunControlAsked
from services.executor.domain.control import ASKED_FOR, WANTS, NodeStanding, judge, judge_node, judge_rerun
from services.executor.domain.facts import Asked, Rerun, Steered
from services.executor.domain.status import RUN_FINAL
from services.executor.starting.store import active_run
from services.executor.steering import store
from services.executor.steering.store import Met, MetNode, TaskIsTaken
from services.executor.store import control_of

FIELDS = ("prompt", "instructions", "llm_backend", "llm_model")  # what another attempt may be given


class Steering:
    def __init__(self, uow: UnitOfWork, bus: Bus, models: Models) -> None:
        self._uow = uow
        self._bus = bus
        self._models = models

    async def control_run(self, request: ControlRun, context: Context) -> RunControlled:
        """Raises Rejection(not_found), (illegal_state), (nothing_to_skip) or (run_active)."""
        action = request.action
        async with self._uow.order(request, context) as tx:
            run = await _locked(tx.conn, request.company, request.run_id)
            if judge(action, request.mode, run.standing):
                if run.standing.state in RUN_FINAL:
                    await _reopen(tx.conn, run)
                await store.leave(tx.conn, run.id, Asked(action, request.mode, request.by))
                await store.note_wish(tx.conn, run.id, WANTS[action], request.mode, request.by)
                about = {"company": run.company, "run_id": run.id, "task_id": run.task_id, "title": run.title}
                tx.publish(RunControlAsked(**about, action=action, mode=request.mode, by=request.by))
                self._ring_after(tx, run.id)
            return tx.answer(
                RunControlled(
                    status=ASKED_FOR[action],
                    actual=run.standing.status,
                    wanted=WANTS[action],
                    skipped_nodes=list(run.failed) if action is RunAction.SKIP_FAILED_AND_RESUME else [],
                    control=await control_of(tx.conn, run.id),
                )
            )

    async def control_node(self, request: ControlNode, context: Context) -> NodeControlled:
        """Raises Rejection(not_found), (invalid), (illegal_state) or (run_active)."""
        action = request.action
        _check(request)
        async with self._uow.order(request, context) as tx:
            run, node = await _met(tx.conn, request.company, request.node_id)
            expected = _foreseen(run, node.standing).ordered(node.waiting)
            reopened = False
            if judge_node(action, request.mode, run.standing, expected):
                order = Steered(node.key, action, request.mode, request.prompt, request.params, request.by)
                reopened = await self._leave(tx, run, request, order)
                tx.publish(NodeControlAsked(**_about(run, node, request), action=action, mode=request.mode))
            return tx.answer(
                NodeControlled(
                    node_id=request.node_id,
                    run_id=run.id,
                    status_after=_asked_for(action, expected),
                    actual=node.standing.status,
                    sidecar_updated=action is NodeAction.OVERRIDE,
                    reopened=reopened,
                )
            )

    async def rerun_node(self, request: RerunNode, context: Context) -> NodeRerun:
        """Raises Rejection(not_found), (invalid), (illegal_state) or (run_active)."""
        async with self._uow.order(request, context) as tx:
            run, node = await _met(tx.conn, request.company, request.node_id)
            expected = _foreseen(run, node.standing).ordered(node.waiting)
            judge_rerun(run.standing, expected)
            order = self._another_attempt(node, request)
            reopened = await self._leave(tx, run, request, order)
            given = [name for name in FIELDS if getattr(request, name) is not None]
            kept = request.keep_descendants
            tx.publish(NodeRerunAsked(**_about(run, node, request), fields=given, keep_descendants=kept))
            return tx.answer(
                NodeRerun(
                    node_id=request.node_id,
                    run_id=run.id,
                    status_after=expected.run_again().status,
                    actual=node.standing.status,
                    attempt=node.attempt + 1,
                    reopened=reopened,
                )
            )

    def _another_attempt(self, node: MetNode, request: RerunNode) -> Rerun:
        backend, model = request.llm_backend, request.llm_model
        if backend is not None or model is not None:
            try:  # another backend has models of its own
                choice = self._models.choose(
                    backend or node.llm_backend, model or (None if backend else node.llm_model)
                )
            except ModelFailure as failure:
                errors = [{"loc": ["llm_backend"], "msg": str(failure)}]
                raise Rejection(Code.INVALID, str(failure), errors=errors) from None
            backend, model = choice.provider, choice.model
        return Rerun(
            key=node.key,
            instructions=request.instructions,
            prompt=request.prompt,
            llm_backend=backend,
            llm_model=model,
            keep_descendants=request.keep_descendants,
            by=request.by,
            critique=request.critique.text if request.critique else None,
            of_attempt=request.critique.of_attempt if request.critique else None,
        )

    async def _leave(self, tx: Tx, run: Met, request: ControlNode | RerunNode, order: Steered | Rerun) -> bool:
        """Returns whether the run had ended and goes on."""
        reopens = run.standing.state in RUN_FINAL
        if reopens:
            await _reopen(tx.conn, run)
            await store.note_wish(tx.conn, run.id, Wanted.RUN, ControlMode.FINISH, request.by)
        await store.leave(tx.conn, run.id, order)
        await store.note_node_order(tx.conn, request.node_id, request.by)
        self._ring_after(tx, run.id)
        return reopens

    def _ring_after(self, tx: Tx, run_id: UUID) -> None:
        tx.after_commit(lambda: self._bus.ring("run", str(run_id).encode()))


async def _met(connection: Connection, company: str, node_id: UUID) -> tuple[Met, MetNode]:
    """The run is locked."""
    run_id = await store.run_of(connection, company, node_id)
    if run_id is None:
        raise Rejection(Code.NOT_FOUND, f"there is no node {node_id}")
    run = await _locked(connection, company, run_id)
    return run, await store.node_of(connection, node_id)


async def _locked(connection: Connection, company: str, run_id: UUID) -> Met:
    run = await store.lock_run(connection, company, run_id)
    if run is None:
        raise Rejection(Code.NOT_FOUND, f"there is no run {run_id}")
    return run


async def _reopen(connection: Connection, run: Met) -> None:
    """From this transaction on the task is taken: nobody starts another run of it meanwhile."""
    try:
        await store.reopen(connection, run.id)
    except TaskIsTaken:
        other = await active_run(connection, run.company, run.task_id)
        message = f"run {other} of this task is active; the ended one cannot go on beside it"
        raise Rejection(Code.RUN_ACTIVE, message, run_id=str(other)) from None


def _about(run: Met, node: MetNode, request: ControlNode | RerunNode) -> dict[str, Any]:
    """What every order to a node tells of it."""
    place = {"company": run.company, "run_id": run.id, "node_id": request.node_id}
    return {**place, "key": node.key, "attempt": node.attempt, "by": request.by}


def _foreseen(run: Met, node: NodeStanding) -> NodeStanding:
    """What an order to the whole run that waits for its owner will make of the node."""
    skipped = RunAction.SKIP_FAILED_AND_RESUME in run.standing.waiting and node.status is NodeStatus.FAILED
    return NodeStanding(NodeStatus.SKIPPED) if skipped else node


def _asked_for(action: NodeAction, node: NodeStanding) -> NodeStatus:
    return NodeStatus.PAUSED if action is NodeAction.PAUSE else node.ordered([action]).status


def _check(request: ControlNode) -> None:
    given = [name for name in ("prompt", "params") if getattr(request, name) is not None]
    if request.action is NodeAction.OVERRIDE and not given:
        message = "an override needs a prompt, params or both"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["prompt"], "msg": message}])
    if request.action is not NodeAction.OVERRIDE and given:
        message = f"{given[0]} comes only with the action override"
        raise Rejection(Code.INVALID, message, errors=[{"loc": given, "msg": message}])
