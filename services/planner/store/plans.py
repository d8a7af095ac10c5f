"""The SQL of plans, their versions, and who is assigned to their nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.page import Page
from contracts.plan import Assignment, ModelRef, PlanGraph
from contracts.planner import ListPlanVersions, Plan, PlanStatus, PlanVersion
from services.planner.domain.assignment import of_this_graph
from services.planner.store.order import order

PLAN = """
select p.id, p.id as plan_id, p.task_id, p.status, p.version, v.graph, v.errors, p.created_at, p.updated_at
from plans p join plan_versions v on v.plan_id = p.id and v.version = p.version
"""
VERSION = "select plan_id, version, status, graph, errors, origin, answer, created_at from plan_versions"
VERSION_ORDER: Mapping[str, str] = {"version": "version", "created_at": "created_at", "status": "status"}


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What there is to be kept of a plan that somebody gave or drafted."""

    status: PlanStatus
    graph: PlanGraph | None
    origin: str
    errors: Sequence[str] = ()
    answer: str | None = None
    job_id: UUID | None = None


class PlanStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def plan(self, company: str, id: UUID) -> Plan | None:
        row = await self._db.fetchrow(f"{PLAN} where p.company_id = $1 and p.id = $2", company, id)
        return None if row is None else await self._whole(row)

    async def plan_of(self, task_id: UUID) -> Plan | None:
        row = await self._db.fetchrow(f"{PLAN} where p.task_id = $1", task_id)
        return None if row is None else await self._whole(row)

    async def _whole(self, row: asyncpg.Record) -> Plan:
        graph = row["graph"] and PlanGraph.model_validate(row["graph"])
        return Plan(**row, assignments=of_this_graph(graph, await self.assignments(row["id"])))

    async def add_version(self, company: str, task_id: UUID, plan_id: UUID, new: NewVersion) -> tuple[UUID, int]:
        """The plan's id and the number of the version. `plan_id` is used when the task has no plan yet."""
        row = await self._db.fetchrow(
            """
            insert into plans as p (id, company_id, task_id, status, version) values ($1, $2, $3, $4, 1)
            on conflict (task_id) do update
                set status = excluded.status, version = p.version + 1, updated_at = clock_timestamp()
            returning id, version
            """,
            *(plan_id, company, task_id, new.status),
        )
        assert row is not None, "the statement inserts or updates"
        await self._db.execute(
            """
            insert into plan_versions (plan_id, version, company_id, status, graph, errors, origin, answer, job_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            *(row["id"], row["version"], company, new.status, new.graph and new.graph.model_dump(mode="json")),
            *(list(new.errors), new.origin, new.answer, new.job_id),
        )
        return row["id"], row["version"]

    async def judge_plan(self, plan_id: UUID, status: PlanStatus, errors: Sequence[str]) -> None:
        await self._db.execute(
            """
            with judged as (
                update plans set status = $2, updated_at = clock_timestamp() where id = $1 returning id, version
            )
            update plan_versions v set status = $2, errors = $3
            from judged where v.plan_id = judged.id and v.version = judged.version
            """,
            *(plan_id, status, list(errors)),
        )

    async def version(self, company: str, plan_id: UUID, version: int) -> PlanVersion | None:
        row = await self._db.fetchrow(
            f"{VERSION} where company_id = $1 and plan_id = $2 and version = $3", company, plan_id, version
        )
        return None if row is None else PlanVersion(**row)

    async def version_of_job(self, job_id: UUID) -> PlanVersion | None:
        row = await self._db.fetchrow(f"{VERSION} where job_id = $1", job_id)
        return None if row is None else PlanVersion(**row)

    async def versions(self, ask: ListPlanVersions) -> Page[PlanVersion]:
        rows = await self._db.fetch(
            f"""
            {VERSION} where company_id = $1 and plan_id = $2
            order by {order(ask.order_by, VERSION_ORDER, "version", "version")} limit $3 offset $4
            """,
            *(ask.company, ask.plan_id, ask.limit, ask.offset),
        )
        count = "select count(*) from plan_versions where company_id = $1 and plan_id = $2"
        total = await self._db.fetchval(count, ask.company, ask.plan_id)
        return Page[PlanVersion](items=[PlanVersion(**row) for row in rows], total=total)

    async def assignments(self, plan_id: UUID) -> list[Assignment]:
        rows = await self._db.fetch(
            """
            select node_id, role, agent_id, llm_backend, llm_model, fallbacks, params from assignments
            where plan_id = $1 order by node_id
            """,
            plan_id,
        )
        return [Assignment(**row) for row in rows]

    async def assign(self, company: str, plan_id: UUID, items: Sequence[Assignment]) -> int:
        """How many of them are new; the others replaced what was there."""
        columns: list[list[Any]] = [
            [item.node_id for item in items],
            [item.role for item in items],
            [item.agent_id for item in items],
            [item.llm_backend for item in items],
            [item.llm_model for item in items],
            [_json(item.fallbacks) for item in items],
            [item.params for item in items],
        ]
        rows = await self._db.fetch(
            """
            insert into assignments
                (plan_id, company_id, node_id, role, agent_id, llm_backend, llm_model, fallbacks, params)
            select $1, $2, node_id, role, agent_id, llm_backend, llm_model, fallbacks::jsonb, params
            from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[])
                as i (node_id, role, agent_id, llm_backend, llm_model, fallbacks, params)
            on conflict (plan_id, node_id) do update
                set role = excluded.role, agent_id = excluded.agent_id, llm_backend = excluded.llm_backend,
                    llm_model = excluded.llm_model, fallbacks = excluded.fallbacks, params = excluded.params,
                    updated_at = clock_timestamp()
            returning xmax = 0 as created
            """,
            *(plan_id, company, *columns),
        )
        return sum(row["created"] for row in rows)


def _json(fallbacks: Sequence[ModelRef] | None) -> str | None:
    """As text: asyncpg takes a list of lists for one array of two dimensions."""
    return None if fallbacks is None else json.dumps([ref.model_dump() for ref in fallbacks])
