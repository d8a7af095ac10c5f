"""The SQL of orders: what they meet, and how they are left for the run's owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres import Connection
from contracts.errors import FluidcrewError
from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus, Wanted
from contracts.run_control import NodeAction
from services.executor.domain.control import NodeStanding, Standing
from services.executor.domain.facts import Asked, Steered
from services.executor.engine import signals


class TaskIsTaken(FluidcrewError):
    """Another run of the task is active."""


class Met(NamedTuple):
    """The run that an order meets."""

    id: UUID
    company: str
    task_id: UUID | None
    title: str
    standing: Standing
    failed: Sequence[str]  # keys of nodes


async def lock_run(connection: Connection, company: str, run_id: UUID) -> Met | None:
    """Nobody else gives the run an order, and its owner takes none, until this transaction ends."""
    row = await connection.fetchrow(
        """select task_id, title, status, wanted, control_mode, reopening,
                  control_asked_at is null or control_effective_at is not null as effective
           from runs where id = $1 and company_id = $2 for update""",
        run_id, company,
    )  # fmt: skip
    if row is None:
        return None
    # a statement of its own: its snapshot must be younger than the lock
    others = await connection.fetchrow(
        """select array(select key from nodes where run_id = $1 and status = 'failed' order by position) as failed,
                  array(select kind from signals where run_id = $1) as waiting""",
        run_id,
    )
    assert others is not None, "a select without from has a row"
    standing = Standing(
        RunStatus(row["status"]),
        Wanted(row["wanted"]),
        ControlMode(row["control_mode"]),
        row["effective"],
        row["reopening"],
        len(others["failed"]),
        frozenset(RunAction(kind) for kind in others["waiting"] if kind not in signals.NODE_ACTION),
    )
    return Met(run_id, company, row["task_id"], row["title"], standing, others["failed"])


async def run_of(connection: Connection, company: str, node_id: UUID) -> UUID | None:
    found: UUID | None = await connection.fetchval(
        "select run_id from nodes where id = $1 and company_id = $2", node_id, company
    )
    return found


async def node_of(connection: Connection, node_id: UUID) -> tuple[str, NodeStanding, list[NodeAction]]:
    """Its key, what it is, and the orders to it that wait, oldest first. The run must be locked."""
    row = await connection.fetchrow(
        """select n.key, n.status, n.pause_reasons,
                  array(select s.kind from signals s
                        where s.run_id = n.run_id and s.payload->>'key' = n.key order by s.id) as waiting
           from nodes n where n.id = $1""",
        node_id,
    )
    assert row is not None, "nodes go with their runs, and the run is locked"
    standing = NodeStanding(NodeStatus(row["status"]), frozenset(row["pause_reasons"]))
    return row["key"], standing, [signals.NODE_ACTION[kind] for kind in row["waiting"]]


async def reopen(connection: Connection, run_id: UUID) -> None:
    """The run holds its task from now on. Raises TaskIsTaken."""
    try:
        async with connection.transaction():
            await connection.execute("update runs set reopening = true where id = $1", run_id)
    except asyncpg.UniqueViolationError as error:
        raise TaskIsTaken from error


async def leave(connection: Connection, run_id: UUID, order: Asked | Steered) -> None:
    """For the run's owner, or for whoever claims it: `wake_at` keeps it from being slept over."""
    kind, payload = signals.written(order)
    await connection.execute("insert into signals (run_id, kind, payload) values ($1, $2, $3)", run_id, kind, payload)
    await connection.execute(
        "update runs set wake_at = clock_timestamp(), updated_at = clock_timestamp() where id = $1", run_id
    )


async def note_wish(connection: Connection, run_id: UUID, wanted: Wanted, mode: ControlMode, by: str | None) -> None:
    """What people want of the run from now on; its owner notes when it is so."""
    await connection.execute(
        """update runs set wanted = $2, control_mode = $3, control_by = $4, control_asked_at = clock_timestamp(),
               control_effective_at = null
           where id = $1""",
        run_id, wanted, mode, by,
    )  # fmt: skip


async def note_node_order(connection: Connection, node_id: UUID, by: str | None) -> None:
    await connection.execute(
        "update nodes set control_asked_at = clock_timestamp(), control_by = $2 where id = $1", node_id, by
    )
