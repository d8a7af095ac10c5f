"""The SQL of orders: what they meet, and how they are left for the run's owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres import Connection
from contracts.errors import FluidcrewError
from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus, Wanted
from contracts.run_control import NodeAction
from services.executor.domain.control import NodeStanding, Standing
from services.executor.domain.facts import Asked, Funded, Judged, Rerun, Steered
from services.executor.domain.run import VERDICT
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


class MetNode(NamedTuple):
    """The node that an order meets. `waiting` are the orders to it that its owner has not seen, oldest first."""

    key: str
    attempt: int
    standing: NodeStanding
    waiting: Sequence[NodeAction | Literal["rerun"]]
    llm_backend: str | None
    llm_model: str | None


class Blamed(NamedTuple):
    """The oldest order of a run; `tries` are the turns that it has broken, or may have."""

    id: int
    kind: str
    payload: dict[str, Any]
    created_at: datetime
    tries: int
    company: str
    task_id: UUID | None
    title: str
    context: dict[str, str]


async def lock_run(connection: Connection, company: str, run_id: UUID) -> Met | None:
    """Nobody else gives the run an order, and its owner takes none, until this transaction ends.

    Its story comes next, before any node: a turn of its owner that leaves the run's row alone takes them in this order.
    """
    row = await connection.fetchrow(
        """select task_id, title, status, wanted, control_mode, reopening,
                  control_asked_at is null or control_effective_at is not null as effective
           from runs where id = $1 and company_id = $2 for update""",
        run_id, company,
    )  # fmt: skip
    if row is None:
        return None
    await connection.execute("select from stories where story = $1 for update", str(run_id))
    # a statement of its own: its snapshot must be younger than the lock
    others = await connection.fetchrow(
        """select array(select key from nodes where run_id = $1 and status = 'failed' order by position) as failed,
                  array(select kind from signals where run_id = $1 and kind = any($2)) as waiting""",
        run_id,
        list(RunAction),
    )
    assert others is not None, "a select without from has a row"
    standing = Standing(
        RunStatus(row["status"]),
        Wanted(row["wanted"]),
        ControlMode(row["control_mode"]),
        row["effective"],
        row["reopening"],
        len(others["failed"]),
        frozenset(RunAction(kind) for kind in others["waiting"]),
    )
    return Met(run_id, company, row["task_id"], row["title"], standing, others["failed"])


async def run_of(connection: Connection, company: str, node_id: UUID) -> UUID | None:
    found: UUID | None = await connection.fetchval(
        "select run_id from nodes where id = $1 and company_id = $2", node_id, company
    )
    return found


async def node_of(connection: Connection, node_id: UUID) -> MetNode:
    """The run must be locked."""
    row = await connection.fetchrow(
        """select n.key, n.attempt, n.status, n.pause_reasons, n.verdict is not null as judged,
                  n.spec->>'llm_backend' as llm_backend, n.spec->>'llm_model' as llm_model,
                  array(select s.kind from signals s
                        where s.run_id = n.run_id and s.payload->>'key' = n.key and s.kind <> $2
                        order by s.id) as waiting
           from nodes n where n.id = $1""",
        node_id,
        signals.VERDICT,
    )
    assert row is not None, "nodes go with their runs, and the run is locked"
    reasons = frozenset(row["pause_reasons"])
    standing = NodeStanding(NodeStatus(row["status"]), reasons, VERDICT in reasons or row["judged"])
    waiting: list[NodeAction | Literal["rerun"]] = [signals.NODE_ACTION.get(kind, "rerun") for kind in row["waiting"]]
    return MetNode(row["key"], row["attempt"], standing, waiting, row["llm_backend"], row["llm_model"])


async def reopen(connection: Connection, run_id: UUID) -> None:
    """The run holds its task from now on. Raises TaskIsTaken."""
    try:
        async with connection.transaction():
            await connection.execute(
                "update runs set reopening = true, activation = nextval('activations') where id = $1", run_id
            )
    except asyncpg.UniqueViolationError as error:
        raise TaskIsTaken from error


async def leave(connection: Connection, run_id: UUID, order: Asked | Steered | Rerun | Judged | Funded) -> None:
    """For the run's owner, or for whoever claims it: `wake_at` keeps it from being slept over."""
    kind, payload = signals.written(order)
    await connection.execute("insert into signals (run_id, kind, payload) values ($1, $2, $3)", run_id, kind, payload)
    await connection.execute(
        """update runs set wake_at = clock_timestamp(), goes_on = goes_on or $2, updated_at = clock_timestamp()
           where id = $1""",
        run_id, kind in signals.REOPENING,
    )  # fmt: skip


async def is_there(connection: Connection, run_id: UUID) -> bool:
    """Locks the run."""
    return bool(await connection.fetchval("select true from runs where id = $1 for update", run_id))


async def blame(connection: Connection, run_id: UUID) -> Blamed | None:
    """The orders behind the oldest one are read one by one from now on: it may be any of them. None when there is none."""
    run = await connection.fetchrow(
        "select company_id, task_id, title, context from runs where id = $1 for update", run_id
    )
    rows = await connection.fetch(
        """update signals s set tries = greatest(s.tries, 1) + (s.id = oldest.id and s.tries > 0)::int
           from (select min(id) as id from signals where run_id = $1) as oldest where s.run_id = $1
           returning s.id, s.kind, s.payload, s.created_at, s.tries""",
        run_id,
    )
    return Blamed(*min(rows, key=lambda row: row["id"]), *run) if run is not None and rows else None


async def look_again(connection: Connection, run_id: UUID, seconds: float) -> None:
    await connection.execute(
        """update runs set wake_at = clock_timestamp() + make_interval(secs => $2), updated_at = clock_timestamp()
           where id = $1""",
        run_id, seconds,
    )  # fmt: skip


async def drop(connection: Connection, run_id: UUID, order: int) -> bool:
    """Nobody carries it out, and what it asked of the run is not wanted any more. False when it is gone already."""
    if not await is_there(connection, run_id):
        return False
    kind = await connection.fetchval("delete from signals where id = $1 returning kind", order)
    if kind in set(RunAction):
        await connection.execute(
            """update runs set wanted = case when 'control' = any(pause_reasons) then 'pause' else 'run' end,
                   control_asked_at = null, control_by = null, control_effective_at = null
               where id = $1""",
            run_id,
        )
    return kind is not None


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
