"""The weather's SQL: circuits, how calls ended, and which nodes wait for a model. Times are the database's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from chassis.llm.call import ModelChoice
from chassis.postgres import Connection, Pool
from contracts import weather as contract
from contracts.weather import CircuitState
from services.executor.domain.weather import Breaker, Tally, shown

WINDOW_SECONDS = 30.0
KEPT_SECONDS = 60.0
FORGOTTEN_DAYS = 30  # a closed circuit of a model that nobody calls any more

BREAKER_COLUMNS = "provider, model, state, since, reason, until, rest, probe, probe_until"
SHOWN = f"""
select c.provider, c.model, c.state, c.since, c.reason, c.until, c.rest, c.probe, c.probe_until,
       clock_timestamp() as now, coalesce(o.calls, 0)::int as calls, coalesce(o.failures, 0)::int as failures,
       (select count(*) from nodes n
        where n.parked_on = c.provider || '/' || c.model and n.status = 'queued')::int as parked
from circuits c left join lateral (
    select sum(calls) as calls, sum(failures) as failures from outcomes
    where provider = c.provider and model = c.model
      and second > clock_timestamp() - make_interval(secs => {WINDOW_SECONDS})
) o on true
"""


class Count(NamedTuple):
    calls: int = 0
    failures: int = 0


class Waits(NamedTuple):
    """Where a node may run, as its spec says it; `fallbacks` as JSON, None for the server's own."""

    key: str
    backend: str | None
    model: str | None
    fallbacks: list[dict[str, str]] | None


async def load(pool: Pool) -> dict[ModelChoice, Breaker]:
    rows = await pool.fetch(f"select {BREAKER_COLUMNS} from circuits")
    return {_choice(row): _breaker(row) for row in rows}


async def know(connection: Connection | Pool, choices: Collection[ModelChoice]) -> None:
    """A circuit for each, closed unless there is one."""
    await connection.execute(
        "insert into circuits (provider, model) select * from unnest($1::text[], $2::text[]) on conflict do nothing",
        *_pairs(sorted(choices, key=str)),
    )


async def add(connection: Connection | Pool, counts: Mapping[ModelChoice, Count]) -> None:
    """To the current second's sums. The order keeps two executors from waiting for each other."""
    rows = sorted((c.provider, c.model, *count) for c, count in counts.items())
    await connection.execute(
        """insert into outcomes as o (provider, model, second, calls, failures)
           select provider, model, date_trunc('second', clock_timestamp()), calls, failures
           from unnest($1::text[], $2::text[], $3::int[], $4::int[]) as x (provider, model, calls, failures)
           on conflict (provider, model, second)
           do update set calls = o.calls + excluded.calls, failures = o.failures + excluded.failures""",
        *zip(*rows, strict=True),
    )


async def lock(connection: Connection, choice: ModelChoice) -> tuple[Breaker, datetime]:
    """The circuit, ours until the transaction ends, and the time."""
    await know(connection, [choice])
    row = await connection.fetchrow(
        f"select {BREAKER_COLUMNS} from circuits where provider = $1 and model = $2 for update",
        choice.provider, choice.model,
    )  # fmt: skip
    assert row is not None, "it was there a statement ago, and closed ones live for days"
    now: datetime = await connection.fetchval("select clock_timestamp()")  # after the wait for the lock
    return _breaker(row), now


async def lock_idle(connection: Connection, choices: Collection[ModelChoice]) -> dict[ModelChoice, Breaker]:
    """Those of the circuits that nobody else is changing right now."""
    rows = await connection.fetch(
        f"""select {BREAKER_COLUMNS} from circuits
            where (provider, model) in (select * from unnest($1::text[], $2::text[]))
            order by provider, model for update skip locked""",
        *_pairs(choices),
    )  # fmt: skip
    return {_choice(row): _breaker(row) for row in rows}


async def tally(connection: Connection, choice: ModelChoice, fair_since: datetime, window: float) -> Tally:
    """Of the window, but nothing from before the circuit closed: that was another weather."""
    row = await connection.fetchrow(
        """with counted as (
               select second, calls, failures from outcomes
               where provider = $1 and model = $2 and second >= date_trunc('second', $3::timestamptz)
                 and second > clock_timestamp() - make_interval(secs => $4)
           ), good as (select max(second) as latest from counted where calls > failures)
           select coalesce(sum(calls), 0)::int as calls, coalesce(sum(failures), 0)::int as failures,
                  coalesce(sum(failures) filter (where latest is null or second > latest), 0)::int as in_a_row
           from counted cross join good""",
        choice.provider, choice.model, fair_since, window,
    )  # fmt: skip
    assert row is not None, "an aggregate has a row"
    return Tally(row["calls"], row["failures"], row["in_a_row"])


async def save(connection: Connection, choice: ModelChoice, breaker: Breaker) -> None:
    await connection.execute(
        """update circuits set state = $3, since = $4, reason = $5, until = $6, rest = $7, probe = $8, probe_until = $9
           where provider = $1 and model = $2""",
        choice.provider, choice.model, *breaker,
    )  # fmt: skip


async def prune(pool: Pool) -> None:
    await pool.execute(
        "delete from outcomes where second < clock_timestamp() - make_interval(secs => $1)", KEPT_SECONDS
    )
    await pool.execute(
        """delete from circuits c where state = 'closed' and since < clock_timestamp() - make_interval(days => $1)
           and not exists (select from outcomes o where o.provider = c.provider and o.model = c.model)""",
        FORGOTTEN_DAYS,
    )


async def wake_parked(pool: Pool, choice: ModelChoice) -> None:
    """Runs that nobody owns and that wait for this model: somebody shall look at them now."""
    await pool.execute(
        """update runs set wake_at = clock_timestamp()
           where id in (select id from runs
                        where owner is null and wake_at > clock_timestamp() and status = 'running'
                          and id in (select run_id from nodes where parked_on = $1 and status = 'queued')
                        for update skip locked)""",  # whoever holds one looks at it
        str(choice),
    )


async def save_parked(connection: Connection, parked: Sequence[tuple[UUID, str | None]]) -> None:
    """(node, what it waits for). After the move of the node, which cleared it."""
    await connection.execute(
        """update nodes n set parked_on = x.parked_on from unnest($1::uuid[], $2::text[]) as x (id, parked_on)
           where n.id = x.id""",
        [node for node, _ in parked], [on for _, on in parked],
    )  # fmt: skip


async def waits_of(connection: Connection, runs: Collection[UUID]) -> dict[UUID, list[Waits]]:
    """Of all nodes that call a model, by run."""
    rows = await connection.fetch(
        """select run_id, key, spec->>'llm_backend' as backend, spec->>'llm_model' as model,
                  spec->'fallbacks' as fallbacks
           from nodes where run_id = any($1) and spec->>'kind' <> 'noop'""",
        list(runs),
    )  # fmt: skip
    found: dict[UUID, list[Waits]] = {run: [] for run in runs}
    for run, *waits in rows:
        found[run].append(Waits(*waits))
    return found


async def circuits(connection: Connection | Pool) -> list[contract.Circuit]:
    """All that there are, as people see them."""
    return [_shown(row) for row in await connection.fetch(f"{SHOWN} order by c.provider, c.model")]


async def circuit(connection: Connection | Pool, provider: str, model: str) -> contract.Circuit | None:
    """None when the model was never called."""
    row = await connection.fetchrow(f"{SHOWN} where c.provider = $1 and c.model = $2", provider, model)
    return _shown(row) if row else None


def _pairs(choices: Collection[ModelChoice]) -> tuple[list[str], list[str]]:
    return [c.provider for c in choices], [c.model for c in choices]


def _choice(row: asyncpg.Record) -> ModelChoice:
    return ModelChoice(row["provider"], row["model"])


def _breaker(row: asyncpg.Record) -> Breaker:
    state, rest = CircuitState(row["state"]), row["rest"]
    return Breaker(state, row["since"], row["reason"], row["until"], rest, row["probe"], row["probe_until"])


def _shown(row: asyncpg.Record) -> contract.Circuit:
    breaker = _breaker(row)
    return contract.Circuit(
        provider=row["provider"],
        model=row["model"],
        state=shown(breaker, row["now"]),
        reason=breaker.reason,
        since=breaker.since,
        until=breaker.until or breaker.probe_until,
        calls=row["calls"],
        failures=row["failures"],
        parked_nodes=row["parked"],
    )
