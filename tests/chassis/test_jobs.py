"""Jobs: one at a time per subject, retried, handed over when their worker dies, refused when it comes back."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from chassis.job_table import Job, LostLease
from chassis.jobs import Jobs
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from contracts.errors import Code, Rejection, RetryLater
from tests.chassis.conftest import Start, nothing


async def enqueue(chassis: Chassis, ref: str = "task-1", kind: str = "draft") -> UUID:
    async with chassis.uow.begin() as tx:
        return await chassis.jobs.enqueue(tx, kind, ref, {"n": 1}, company="default")


def doing(chassis: Chassis, result: dict[str, int]) -> object:
    async def work(job: Job) -> None:
        async with chassis.uow.begin(job.context) as tx:
            await chassis.jobs.finish(tx, job, result)

    return work


async def test_a_job_is_done_once_and_a_second_request_joins_it(start: Start) -> None:
    gate = asyncio.Event()
    calls: list[int] = []

    async def build(chassis: Chassis) -> None:
        async def work(job: Job) -> None:
            calls.append(job.attempt)
            await gate.wait()
            async with chassis.uow.begin() as tx:
                await chassis.jobs.finish(tx, job, {"answer": 42})

        chassis.jobs.register("draft", work)

    async with start("planner", build) as chassis:
        first = await enqueue(chassis)
        await eventually(lambda: calls == [1])
        assert await enqueue(chassis) == first
        assert (await chassis.jobs.wait(first, 0.0)).state == "running"
        gate.set()
        state = await chassis.jobs.wait(first, 60)
        assert (state.state, state.result) == ("done", {"answer": 42})
        assert await enqueue(chassis) != first, "a finished job is not joined"
    assert calls[0] == 1


async def test_a_refusal_ends_a_job_and_a_delay_or_a_bug_repeats_it(start: Start) -> None:
    tries: list[int] = []

    async def build(chassis: Chassis) -> None:
        async def refuse(job: Job) -> None:
            raise Rejection(Code.INVALID, "no such plan")

        async def flaky(job: Job) -> None:
            tries.append(job.attempt)
            if job.attempt == 1:
                raise RetryLater(0.05, "busy")
            if job.attempt == 2:
                raise ZeroDivisionError
            await doing(chassis, {"ok": 1})(job)  # type: ignore[operator]

        chassis.jobs.register("refused", refuse)
        chassis.jobs.register("flaky", flaky)

    async with start("planner", build) as chassis:
        state = await chassis.jobs.wait(await enqueue(chassis, kind="refused"), 60)
        assert state.state == "failed"
        assert state.failure is not None
        assert state.failure.code is Code.INVALID
        assert (await chassis.jobs.wait(await enqueue(chassis, kind="flaky"), 60)).state == "done"
        assert tries == [1, 2, 3]


async def test_a_bug_after_thousands_of_attempts_is_only_put_off_again(start: Start) -> None:
    """What waits for another service for hours counts attempts, and a power of two of that many fits into no float."""

    async def build(chassis: Chassis) -> None:
        async def broken(job: Job) -> None:
            raise ZeroDivisionError

        chassis.jobs.register("draft", broken, max_attempts=100_000)

    async with start("planner", nothing) as before:
        id = await enqueue(before)
        await before.pool.execute("update jobs set attempt = 5000 where id = $1", id)
    async with start("planner", build) as chassis:
        put_off = "select state = 'queued' and attempt > 5000 from jobs where id = $1"
        await eventually(lambda: chassis.pool.fetchval(put_off, id))


async def test_a_dead_workers_job_is_taken_over_and_the_zombie_is_refused(start: Start) -> None:
    outcome: list[str] = []

    async def build(chassis: Chassis) -> None:
        chassis.jobs.register("draft", doing(chassis, {"by": 2}))  # type: ignore[arg-type]

    async with start("planner", nothing) as dead:
        id = await enqueue(dead)
        zombie = Jobs(dead.pool)
        zombie.register("draft", doing(dead, {"by": 1}), lease=0.5)  # type: ignore[arg-type]
        [job] = await zombie._claim("draft")
        async with start("planner", build) as alive:
            state = await alive.jobs.wait(id, 60)
            assert (state.state, state.result) == ("done", {"by": 2})
            with pytest.raises(LostLease):
                async with dead.uow.begin() as tx:
                    await zombie.finish(tx, job, {"by": 1})
            outcome.append("refused")
    assert outcome == ["refused"]


async def test_a_worker_that_stops_hands_its_job_back_at_once(start: Start) -> None:
    began = asyncio.Event()

    async def stuck(chassis: Chassis) -> None:
        async def work(job: Job) -> None:
            began.set()
            await asyncio.Event().wait()

        chassis.jobs.register("draft", work, lease=600)

    async def quick(chassis: Chassis) -> None:
        chassis.jobs.register("draft", doing(chassis, {"ok": 1}))  # type: ignore[arg-type]

    async with start("planner", stuck) as first:
        id = await enqueue(first)
        await began.wait()
    async with start("planner", quick) as second:
        assert (await second.jobs.wait(id, 60)).state == "done"


async def test_a_job_is_handed_back_though_nobody_has_the_patience_to_see_it(start: Start) -> None:
    """The database is slow just then: the time to drain is over, and the loop of jobs hands back as well."""

    async def build(chassis: Chassis) -> None:
        async def work(_: Job) -> None:
            await asyncio.Event().wait()

        chassis.jobs.register("draft", work)

    async with start("planner", build) as chassis:
        id = await enqueue(chassis)
        begun = "select state = 'running' from jobs where id = $1"
        await eventually(lambda: chassis.pool.fetchval(begun, id))
        async with chassis.pool.acquire() as slow, slow.transaction():
            await slow.execute("select from jobs where id = $1 for update", id)
            waits = (
                "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)) and query like $2)"
            )
            impatient = asyncio.create_task(chassis.jobs.drain(0))
            handing_back = (slow.get_server_pid(), "%'queued'%")
            await eventually(lambda: chassis.pool.fetchval(waits, *handing_back), what="a job that is handed back")
            impatient.cancel()
            await asyncio.gather(impatient, return_exceptions=True)
            again = asyncio.create_task(chassis.jobs.drain(0))
            await eventually(lambda: chassis.pool.fetchval(waits, *handing_back), what="it is handed back on")
        await again
        row = await chassis.pool.fetchrow("select state, attempt from jobs where id = $1", id)
        assert row is not None
        assert tuple(row) == ("queued", 0)


async def test_a_job_that_kills_its_workers_is_given_up(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        chassis.jobs.register("draft", doing(chassis, {"ok": 1}), max_attempts=2)  # type: ignore[arg-type]

    async with start("planner", nothing) as first:
        id = await enqueue(first)
        died = "update jobs set attempt = 7, state = 'running', lease_until = clock_timestamp() - interval '1 second'"
        await first.pool.execute(died)
    async with start("planner", build) as second:
        state = await second.jobs.wait(id, 60)
        assert state.state == "failed"
        assert "worker died" in str(state.error)


async def test_a_job_that_was_handed_back_is_refused_to_who_had_it_though_the_attempt_is_the_same(
    start: Start,
) -> None:
    """Work that cannot be interrupted (a thread) may end after its worker gave the job away."""
    async with start("planner", nothing) as first:
        id = await enqueue(first)
        former, present = Jobs(first.pool), Jobs(first.pool)
        for jobs in (former, present):
            jobs.register("draft", doing(first, {}), lease=60)  # type: ignore[arg-type]
        [late] = await former._claim("draft")
        await first.pool.execute("update jobs set state = 'queued', lease_until = null, attempt = attempt - 1")
        [job] = await present._claim("draft")
        assert (late.attempt, job.attempt) == (1, 1)
        with pytest.raises(LostLease):
            async with first.uow.begin() as tx:
                await former.finish(tx, late, {"by": 1})
        async with first.uow.begin() as tx:
            await present.finish(tx, job, {"by": 2})
        assert (await first.jobs.wait(id, 0)).result == {"by": 2}


async def test_work_that_lost_its_lease_is_stopped(start: Start) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def build(chassis: Chassis) -> None:
        async def work(job: Job) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        chassis.jobs.register("draft", work, lease=0.4)

    async with start("planner", build) as chassis:
        await enqueue(chassis)
        await began.wait()
        await chassis.pool.execute(
            "update jobs set worker = gen_random_uuid(), lease_until = now() + interval '1 hour'"
        )
        await asyncio.wait_for(stopped.wait(), 60)
        assert (await chassis.pool.fetchval("select state from jobs")) == "running", "it is the other one's"


async def test_work_longer_than_its_lease_is_done_once(start: Start) -> None:
    calls: list[int] = []

    async def build(chassis: Chassis) -> None:
        async def work(job: Job) -> None:
            calls.append(job.attempt)
            first = await chassis.pool.fetchval("select lease_until from jobs")
            await eventually(lambda: _later(chassis, first))
            await doing(chassis, {"ok": 1})(job)  # type: ignore[operator]

        chassis.jobs.register("draft", work, lease=3)

    async with start("planner", build) as chassis:
        assert (await chassis.jobs.wait(await enqueue(chassis), 60)).state == "done"
    assert calls == [1]


async def _later(chassis: Chassis, first: object) -> bool:
    renewed = "select lease_until > $1::timestamptz + interval '3 seconds' from jobs"
    return (await chassis.pool.fetchval(renewed, first)) is True


async def test_a_failure_in_words_that_cannot_be_stored_is_still_a_failure(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        async def refuse(job: Job) -> None:
            raise Rejection(Code.INVALID, "the model said \x00 and \ud800")

        chassis.jobs.register("draft", refuse)

    async with start("planner", build) as chassis:
        state = await chassis.jobs.wait(await enqueue(chassis), 60)
        assert state.state == "failed"
        assert "the model said" in str(state.error)


async def test_a_job_written_by_another_release_is_done(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        chassis.jobs.register("draft", doing(chassis, {"ok": 1}))  # type: ignore[arg-type]

    async with start("planner", nothing) as newer:
        id = await enqueue(newer)
        await newer.pool.execute("""update jobs set context = context || '{"of_tomorrow": "x"}'""")
    async with start("planner", build) as older:
        assert (await older.jobs.wait(id, 60)).state == "done"


async def test_everybody_who_waits_is_told_and_nothing_of_it_stays(start: Start) -> None:
    gate = asyncio.Event()

    async def build(chassis: Chassis) -> None:
        async def work(job: Job) -> None:
            await gate.wait()
            await doing(chassis, {"ok": 1})(job)  # type: ignore[operator]

        chassis.jobs.register("draft", work)

    async with start("planner", build) as chassis:
        id = await enqueue(chassis)
        waiting = [asyncio.create_task(chassis.jobs.wait(id, 60)) for _ in range(3)]
        await eventually(lambda: len(chassis.jobs._changed.get(id, ())) == 3)
        gate.set()
        assert {state.state for state in await asyncio.gather(*waiting)} == {"done"}
        assert chassis.jobs._changed == {}


async def test_a_job_is_not_done_before_it_is_due(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        chassis.jobs.register("draft", doing(chassis, {"ok": 1}))  # type: ignore[arg-type]

    async with start("planner", build) as chassis:
        async with chassis.uow.begin() as tx:
            later = await chassis.jobs.enqueue(tx, "draft", "later", {}, company="default", due_in=3600)
        assert (await chassis.jobs.wait(await enqueue(chassis), 60)).state == "done"
        assert (await chassis.jobs.wait(later, 0)).state == "queued"


async def test_a_former_attempt_of_the_same_worker_is_refused(start: Start) -> None:
    """It stalled past its lease and then claimed the job once more itself."""
    async with start("planner", nothing) as chassis:
        await enqueue(chassis)
        jobs = Jobs(chassis.pool)
        jobs.register("draft", doing(chassis, {}), lease=60)  # type: ignore[arg-type]
        [former] = await jobs._claim("draft")
        await chassis.pool.execute("update jobs set lease_until = clock_timestamp() - interval '1 second'")
        [present] = await jobs._claim("draft")
        with pytest.raises(LostLease):
            async with chassis.uow.begin() as tx:
                await jobs.finish(tx, former, {})
        async with chassis.uow.begin() as tx:
            await jobs.finish(tx, present, {})


async def test_a_kind_of_jobs_is_not_taken_from_who_does_it_already(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        chassis.jobs.register("draft", doing(chassis, {}))  # type: ignore[arg-type]

    async with start("planner", build) as chassis:
        with pytest.raises(RuntimeError, match="'draft' are done already"):
            chassis.jobs.register("draft", doing(chassis, {}))  # type: ignore[arg-type]
