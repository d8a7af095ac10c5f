"""The SQL of the runs that the executor was asked for, or told of."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.executor import StartRun
from services.planner.domain.task import RunState, TaskRun

RUN = "select run_id, ordinal, state, sequence, dry_run, activation from task_runs"
#: of a task's runs: the one that became active last, as domain.task.is_latest has it
LATEST = "order by activation desc, ordinal desc"


def _run(row: asyncpg.Record | None) -> TaskRun | None:
    return None if row is None else TaskRun(**{**row, "state": RunState(row["state"])})


class RunStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def ask_for_run(
        self, task_id: UUID, run: StartRun, *, retries: UUID | None = None, fresh: bool = False
    ) -> None:
        """Note that the executor is to be asked. Noting it twice changes nothing, unless it was refused as it stood."""
        await self._db.execute(
            """
            insert into task_runs as r (run_id, task_id, company_id, dry_run, request, retries, fresh)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (run_id) do update set request = excluded.request where r.state = 'refused'
            """,
            *(run.run_id, task_id, run.company, run.dry_run, run.model_dump(mode="json"), retries, fresh),
        )

    async def wanted(self, run_id: UUID) -> StartRun | None:
        """What the executor is to be asked; None when it has said yes already."""
        request = await self._db.fetchval(
            "select request from task_runs where run_id = $1 and state in ('asked', 'refused')", run_id
        )
        return None if request is None else StartRun.model_validate(request)

    async def ask_again(self, run_id: UUID) -> StartRun | None:
        """The same, as the task's newest run; it needs no telling of orders that were given before."""
        request = await self._db.fetchval(
            """
            update task_runs r set ordinal = default, state = 'asked', asked_at = clock_timestamp(),
                heard_at = clock_timestamp(), told_order = t.order_id
            from tasks t where r.run_id = $1 and r.state in ('asked', 'refused') and t.id = r.task_id returning r.request
            """,
            run_id,
        )
        return None if request is None else StartRun.model_validate(request)

    async def refuse_run(self, run_id: UUID) -> bool:
        """False when the run's facts have shown meanwhile that it was accepted after all."""
        refuse = "update task_runs set state = 'refused' where run_id = $1 and state = 'asked' returning true"
        return bool(await self._db.fetchval(refuse, run_id))

    async def run_told_of(self, company: str, task_id: UUID, run_id: UUID) -> TaskRun:
        """The run a fact speaks of. One that we do not know was started, so it is noted as the task's newest."""
        await self._db.execute(
            """
            insert into task_runs (run_id, task_id, company_id) values ($1, $2, $3) on conflict (run_id) do nothing
            """,
            *(run_id, task_id, company),
        )
        found = await self.run(run_id)
        assert found is not None, "it was inserted above"
        return found

    async def run(self, run_id: UUID) -> TaskRun | None:
        return _run(await self._db.fetchrow(f"{RUN} where run_id = $1 for update", run_id))

    async def has(self, run_id: UUID) -> bool:
        return bool(await self._db.fetchval("select exists (select from task_runs where run_id = $1)", run_id))

    async def latest_run(self, task_id: UUID) -> TaskRun | None:
        return _run(
            await self._db.fetchrow(
                f"{RUN} where task_id = $1 and state not in ('asked', 'refused') {LATEST} limit 1", task_id
            )
        )

    async def save_run(self, run: TaskRun) -> None:
        await self._db.execute(
            """update task_runs set state = $2, sequence = $3, activation = $4, heard_at = clock_timestamp()
               where run_id = $1""",
            *(run.run_id, run.state, run.sequence, run.activation),
        )

    async def retry_of(self, run_id: UUID) -> tuple[UUID | None, bool]:
        """The ended run that this one was asked for to follow, if any, and whether without its results."""
        row = await self._db.fetchrow("select retries, fresh from task_runs where run_id = $1", run_id)
        return (row["retries"], row["fresh"]) if row else (None, False)

    async def earlier_runs(self, task_id: UUID, most: int) -> list[UUID]:
        """Those that the executor accepted and that were no rehearsals, the newest first."""
        rows = await self._db.fetch(
            f"""
            select run_id from task_runs where task_id = $1 and state not in ('asked', 'refused') and not dry_run
            {LATEST} limit $2
            """,
            *(task_id, most),
        )
        return [row["run_id"] for row in rows]

    async def is_being_started(self, task_id: UUID, within: float) -> bool:
        """Whether the executor was asked within the last seconds and its answer is not noted yet."""
        return bool(
            await self._db.fetchval(
                """
                select exists (select from task_runs where task_id = $1 and state = 'asked'
                               and asked_at > clock_timestamp() - make_interval(secs => $2))
                """,
                *(task_id, within),
            )
        )
