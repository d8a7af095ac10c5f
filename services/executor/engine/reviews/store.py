"""The SQL of reviews within a turn of the committer, before a node's rows are moved on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.verdict import Verdict
from services.executor.domain.draft import Draft
from services.executor.domain.facts import SPENT, Spend
from services.executor.domain.graph import Plan
from services.executor.domain.results import PREVIEW_CHARACTERS
from services.executor.domain.run import Closed, Guided, Overridden
from services.executor.spending.booking.store import PURCHASES_OF_IT, TOOK


async def results(connection: Connection, nodes: Collection[UUID]) -> Mapping[UUID, asyncpg.Record]:
    """What is told of the results that these nodes have."""
    rows = await connection.fetch(
        f"""select n.id, n.checksum, left(n.output, $2) as output_preview, n.model, n.duration_ms, a.requested,
                  coalesce(a.warnings, '{{}}') as warnings, {TOOK}
           from nodes n left join attempts a on a.node_id = n.id and a.number = n.attempt {PURCHASES_OF_IT}
           where n.id = any($1)""",
        list(nodes), PREVIEW_CHARACTERS,
    )  # fmt: skip
    return {row["id"]: row for row in rows}


async def spent(connection: Connection, runs: Collection[UUID]) -> Mapping[UUID, Spend]:
    """What these runs have cost in all earlier turns, reviews included."""
    rows = await connection.fetch(
        """select run_id, sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
                  sum(requests)::int as requests, sum(cost_usd) as cost_usd,
                  sum(estimated_calls)::int as estimated_calls, sum(unpriced_calls)::int as unpriced_calls
           from nodes where run_id = any($1) group by run_id""",
        list(runs),
    )
    return {row["run_id"]: Spend.of(row) for row in rows}


async def bought(connection: Connection, nodes: Collection[UUID]) -> Mapping[tuple[UUID, int], Spend]:
    """What others have called models for, by attempt."""
    rows = await connection.fetch(
        f"select node_id, attempt, {', '.join(SPENT)} from purchases where node_id = any($1)", list(nodes)
    )
    return {(row["node_id"], row["attempt"]): Spend.of(row) for row in rows}


async def delivered(pool: Pool, node: UUID, attempt: int) -> asyncpg.Record | None:
    """Number, opening, size in bytes and checksum of what this attempt brought, or the latest one before that brought
    anything."""
    return await pool.fetchrow(
        """select number, output, output_size, checksum from attempts
           where node_id = $1 and number <= $2 and output is not null order by number desc limit 1""",
        node, attempt,
    )  # fmt: skip


async def save(connection: Connection, drafts: Sequence[Draft]) -> None:
    await save_overrides(connection, [overridden for draft in drafts for overridden in draft.overridden])
    await save_guidances(connection, [guided for draft in drafts for guided in draft.guided])
    await save_verdicts(connection, [judged for draft in drafts for judged in draft.judged])
    await save_warnings(connection, [closed for draft in drafts for closed in draft.closed if closed.warnings])


async def save_verdicts(connection: Connection, judged: Sequence[tuple[Plan, Verdict]]) -> None:
    """The last one of a node's stays."""
    verdicts = {plan.id: verdict.model_dump(mode="json") for plan, verdict in judged}
    if verdicts:
        await connection.execute(
            """update nodes n set verdict = x.verdict
               from unnest($1::uuid[], $2::jsonb[]) as x (id, verdict) where n.id = x.id""",
            list(verdicts), list(verdicts.values()),
        )  # fmt: skip


async def save_overrides(connection: Connection, overridden: Sequence[Overridden]) -> None:
    """What the next attempts of these nodes are told: a prompt that replaces, params that are laid over."""
    for node, prompt, params, backend, model in overridden:
        await connection.execute(
            """update nodes set spec = spec
                   || case when $2::text is null then '{}' else jsonb_build_object('instructions', $2::text) end
                   || case when $3::jsonb is null then '{}'
                           else jsonb_build_object('params', coalesce(spec->'params', '{}') || $3::jsonb) end
                   || jsonb_strip_nulls(jsonb_build_object('llm_backend', $4::text, 'llm_model', $5::text))
               where id = $1""",
            node.id, prompt, params, backend, model,
        )  # fmt: skip


#: of guidances: no attempt has succeeded with it yet; what comes after one is about something else
STILL_TOLD = """guidances.attempt > coalesce((select max(number) from attempts
    where attempts.node_id = guidances.node_id and status = 'succeeded'), 0)"""


async def save_guidances(connection: Connection, guided: Sequence[Guided]) -> None:
    for node, attempt, guidance, on_top in guided:
        told: dict[str, Any] = guidance.model_dump(exclude_none=True)
        await connection.execute(
            f"""insert into guidances as g (node_id, attempt, revised, guidance)
               select n.id, $2, $4, case
                       when $4 or n.verdict is null then coalesce(
                           (select guidance from guidances where node_id = n.id and attempt <= $2 and ($4 or {STILL_TOLD})
                            order by attempt desc limit 1), '{{}}')
                       else jsonb_strip_nulls(jsonb_build_object('critique', n.verdict->>'critique')) end || $3::jsonb
               from nodes n where n.id = $1
               on conflict (node_id, attempt) do update
                   set guidance = excluded.guidance, revised = excluded.revised""",
            node.id, attempt, told, on_top,
        )  # fmt: skip


async def save_warnings(connection: Connection, closed: Sequence[Closed]) -> None:
    """Of results that are told of again when they are accepted."""
    for done in closed:
        await connection.execute(
            "update attempts set warnings = $3 where node_id = $1 and number = $2",
            done.node.id, done.number, list(done.warnings),
        )  # fmt: skip
