"""The SQL of the reconciler: what should not be, and what mends it. Owners commit whole turns, so one snapshot is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from chassis.postgres import Connection


class Kind(StrEnum):
    OWNER_GONE = "owner_gone"
    ASLEEP = "asleep"
    NOT_ENDED = "not_ended"
    ORDER_LOST = "order_lost"
    ATTEMPT_LEFT = "attempt_left"
    NODE_LEFT = "node_left"


class Fault(NamedTuple):
    run_id: UUID
    kind: Kind


class Told(NamedTuple):
    """What facts about a run need."""

    id: UUID
    company: str
    task_id: UUID | None
    title: str
    context: dict[str, str]


ACTIVE = "r.status in ('queued', 'running', 'paused')"
FINAL = "r.status in ('completed', 'failed', 'canceled')"
ORDERED = "exists (select from signals s where s.run_id = r.id)"
ALL_FINAL = """not exists (select from nodes n
    where n.run_id = r.id and n.status not in ('completed', 'failed', 'skipped', 'canceled'))"""
HELD = "exists (select from nodes n where n.run_id = r.id and n.status in ('paused', 'reviewing'))"
#: what stands on a result that a verdict holds waits as well; a skipped node passes nothing on
SHADED = """(with recursive shaded as (
        select h.key from nodes h where h.run_id = r.id and h.status = 'paused' and 'verdict' = any(h.pause_reasons)
        union select s.key from shaded join nodes s on s.run_id = r.id and shaded.key = any(s.deps) and s.status <> 'skipped'
    ) select key from shaded)"""
READY = f"""exists (select from nodes n where n.run_id = r.id and n.status = 'queued' and n.key not in {SHADED}
    and not exists (select from nodes d
        where d.run_id = r.id and d.key = any(n.deps) and d.status not in ('completed', 'skipped')))"""
BUSY = "exists (select from nodes n where n.run_id = r.id and n.status = 'running')"
#: nobody looks at it, and rightly: only people can move it on
RESTS = f"""not {ORDERED} and r.wanted <> 'cancel' and r.deadline_at is null and not {BUSY}
    and (r.status = 'paused' or r.status = 'running' and r.pause_reasons = '{{}}' and {HELD} and not {READY})"""
#: of the attempt `a` of the node `n`
LEFT = f"a.status = 'running' and ({FINAL} or n.status <> 'running' or n.attempt <> a.number)"

FIND: Mapping[Kind, str] = {
    Kind.OWNER_GONE: """from runs r where r.owner is not null
        and not exists (select from workers w where w.id = r.owner and not w.dead)""",
    Kind.NOT_ENDED: f"""from runs r where r.owner is null and r.status in ('running', 'paused')
        and (r.wake_at is null or r.wake_at > clock_timestamp()) and {ALL_FINAL}""",
    Kind.ASLEEP: f"""from runs r where r.owner is null and r.wake_at is null and {ACTIVE}
        and not ({RESTS}) and not {ALL_FINAL}""",
    Kind.ORDER_LOST: f"""from runs r where {ACTIVE} and not {ORDERED}
        and (r.wanted = 'cancel' or (r.wanted = 'pause') <> ('control' = any(r.pause_reasons)))
        and (r.wanted <> 'run' or r.owner is null and r.wake_at is null)""",
    Kind.ATTEMPT_LEFT: f"""from attempts a join nodes n on n.id = a.node_id join runs r on r.id = a.run_id
        where {LEFT}""",
    Kind.NODE_LEFT: f"from nodes n join runs r on r.id = n.run_id where {FINAL} and n.status = 'running'",
}
END = UUID(int=2**128 - 1)
#: what has no index is searched a stretch of nodes at a time, each by the column whose index leads through it
WALKED: Mapping[Kind, str] = {Kind.ATTEMPT_LEFT: "a.node_id", Kind.NODE_LEFT: "n.id"}

MEND: Mapping[Kind, str] = {
    Kind.OWNER_GONE: "update runs set owner = null, wake_at = clock_timestamp() where id = $1",
    Kind.NOT_ENDED: "update runs set wake_at = clock_timestamp() where id = $1",
    Kind.ASLEEP: "update runs set wake_at = clock_timestamp() where id = $1",
    Kind.ORDER_LOST: """with lost as (
            insert into signals (run_id, kind, payload)
            select id, case wanted when 'run' then 'resume' else wanted end, jsonb_build_object('mode', control_mode)
            from runs where id = $1
        ) update runs set wake_at = clock_timestamp() where id = $1""",
    Kind.ATTEMPT_LEFT: f"""update attempts a set status = 'lost', error = 'nobody worked on it any more',
            ended_at = clock_timestamp()
        from nodes n, runs r where a.run_id = $1 and n.id = a.node_id and r.id = a.run_id and {LEFT}""",
    Kind.NODE_LEFT: """update nodes n set status = case r.status when 'canceled' then 'canceled' else 'failed' end,
            error = coalesce(n.error, 'its run had ended'), ended_at = clock_timestamp(), updated_at = clock_timestamp()
        from runs r where r.id = $1 and n.run_id = r.id and n.status = 'running'""",
}


async def faults(connection: Connection, kind: Kind, most: int) -> list[Fault]:
    rows = await connection.fetch(f"select distinct r.id {FIND[kind]} limit $1", most)
    return [Fault(row["id"], kind) for row in rows]


async def stretch_end(connection: Connection, after: UUID, length: int) -> UUID | None:
    """The last of the `length` nodes that follow; None when there are no more than that."""
    last: UUID | None = await connection.fetchval(
        "select id from nodes where id > $1 order by id offset $2 limit 1", after, length - 1
    )
    return last


async def faults_in_stretch(connection: Connection, kind: Kind, after: UUID, last: UUID | None) -> list[Fault]:
    rows = await connection.fetch(
        f"select distinct r.id {FIND[kind]} and {WALKED[kind]} > $1 and {WALKED[kind]} <= $2", after, last or END
    )
    return [Fault(row["id"], kind) for row in rows]


async def still(connection: Connection, fault: Fault) -> Told | None:
    """The run, locked, if it is still as it should not be."""
    told = await lock(connection, fault.run_id)
    if told is None:
        return None
    found = await connection.fetchval(f"select exists (select {FIND[fault.kind]} and r.id = $1)", fault.run_id)
    return told if found else None


async def lock(connection: Connection, run_id: UUID) -> Told | None:
    """None when it is gone, or somebody moves it right now."""
    row = await connection.fetchrow(
        "select id, company_id, task_id, title, context from runs where id = $1 for update skip locked", run_id
    )
    return Told(*row) if row else None


async def mend(connection: Connection, fault: Fault) -> None:
    await connection.execute(MEND[fault.kind], fault.run_id)


async def silent_runs(connection: Connection, seconds: float, most: int) -> list[UUID]:
    """Running runs in which nothing runs and nothing has moved for so long, and of which nobody has been told since."""
    rows: Sequence[Any] = await connection.fetch(
        f"""select r.id from runs r cross join lateral (
                select greatest(r.started_at, r.control_asked_at, max(n.updated_at)) as moved_at
                from nodes n where n.run_id = r.id
            ) as latest
            where r.status = 'running' and not {BUSY}
              and moved_at < clock_timestamp() - make_interval(secs => $1)
              and (r.stalled_at is null or r.stalled_at < moved_at) limit $2""",
        seconds, most,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def note_stall(connection: Connection, run_id: UUID) -> datetime:
    """Returns since when nothing has moved."""
    since: datetime = await connection.fetchval(
        """update runs r set stalled_at = clock_timestamp() where id = $1
           returning (select greatest(r.started_at, r.control_asked_at, max(n.updated_at))
                      from nodes n where n.run_id = r.id)""",
        run_id,
    )
    return since
