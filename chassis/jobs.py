"""Long work that must survive its worker: committed as a row, claimed with a lease, fenced by its attempt.

A worker claims a due job (`skip locked`), works outside any transaction, and records the result in a transaction whose
`finish` checks that the attempt is still its own. A worker that dies is noticed when its lease ends; a worker that comes
back from the dead is refused by the fence.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from chassis.job_attempt import Attempt, Terms, Work
from chassis.job_table import Job, JobState, JobTable
from chassis.outage import Outage
from chassis.postgres import CONNECTION_LOST, Pool
from chassis.unit_of_work import Tx

POLL = 1.0  # seconds between looks at the table when no doorbell rings


class Jobs:
    def __init__(self, pool: Pool) -> None:
        self._table = JobTable(pool)
        self._terms: dict[str, Terms] = {}
        self._free: dict[str, int] = {}
        self._due = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._claiming = asyncio.Lock()
        self._closed = False  # nothing is claimed any more
        self._stopped = False
        self._changed: dict[UUID, set[asyncio.Event]] = {}  # who waits in this process
        self._database = Outage("jobs.database")

    def register(
        self, kind: str, work: Work, *, concurrency: int = 4, max_attempts: int = 5, lease: float = 15.0
    ) -> None:
        """Do jobs of this kind here. `lease` in seconds; it is renewed while the work runs."""
        if kind in self._terms:
            raise RuntimeError(f"jobs of the kind {kind!r} are done already; call this one something else")
        self._terms[kind] = Terms(work, max_attempts, lease)
        self._free[kind] = concurrency

    async def enqueue(
        self, tx: Tx, kind: str, ref: str, payload: dict[str, Any], *, company: str, due_in: float = 0.0
    ) -> UUID:
        """Commit a job with the transaction, or join the active one of the same kind and ref. Returns its id."""
        id = await self._table.enqueue(tx, kind, ref, payload, company=company, due_in=due_in)
        tx.after_commit(self._ring)
        return id

    async def _ring(self) -> None:
        self._due.set()

    async def finish(self, tx: Tx, job: Job, result: dict[str, Any]) -> None:
        """Record the result with the transaction of its effects. Raises LostLease when the job is another's."""
        await self._table.finish(tx, job, result)
        tx.after_commit(lambda: self._tell(job.id))

    async def _tell(self, id: UUID) -> None:
        for event in self._changed.get(id, ()):
            event.set()

    async def wait(self, id: UUID, timeout: float) -> JobState:
        """The job's state once it has ended, or as it is after `timeout` seconds or when this process stops."""
        event = asyncio.Event()
        self._changed.setdefault(id, set()).add(event)
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            while True:
                event.clear()  # before the look: what changes after it is told
                state = await self._table.state(id)
                left = deadline - asyncio.get_running_loop().time()
                if state.ended or left <= 0 or self._stopped:
                    return state
                try:
                    async with asyncio.timeout(min(left, POLL)):
                        await event.wait()  # the worker may be another process
                except TimeoutError:
                    continue
        finally:
            self._changed[id].discard(event)
            if not self._changed[id]:
                del self._changed[id]

    async def run(self, stop: asyncio.Event) -> None:
        """Claim and do what is due, until told to stop; what is unfinished then is handed back."""
        while not stop.is_set():
            pause = POLL
            try:
                for kind in self._terms:
                    await self._begin(kind)
                self._database.over()
            except CONNECTION_LOST as error:
                self._database.noticed(error)
                pause = self._database.pause()
            await self._wait_for_work(stop, pause)
        self._stopped = True
        await self._hand_back()

    async def drain(self, patience: float) -> None:
        """Begin nothing any more. What is under way may end within `patience` seconds; the rest is handed back, and other
        workers find it at once. For `on_drain`, before what the work stands on is closed."""
        async with self._claiming:
            self._closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=patience)
        await self._hand_back()

    async def _hand_back(self) -> None:
        """Who is canceled once more while it hands back does not, and its job waits for the end of a lease."""
        running = list(self._running)
        for task in running:
            if not task.cancelling():
                task.cancel()
        await asyncio.shield(asyncio.gather(*running, return_exceptions=True))

    async def _begin(self, kind: str) -> None:
        async with self._claiming:
            for job in [] if self._closed else await self._claim(kind):
                task = asyncio.create_task(self._do(job), name=f"job.{kind}")
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _wait_for_work(self, stop: asyncio.Event, pause: float) -> None:
        waiting = [asyncio.create_task(e.wait()) for e in (stop, self._due)]
        await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        self._due.clear()

    async def _claim(self, kind: str) -> list[Job]:
        if self._free[kind] <= 0:
            return []
        claimed = await self._table.claim(kind, self._free[kind], self._terms[kind].lease)
        self._free[kind] -= len(claimed)
        return claimed

    async def _do(self, job: Job) -> None:
        try:
            await Attempt(self._table, self._terms[job.kind], job, self._database).run()
        finally:
            self._free[job.kind] += 1
            self._due.set()
            await self._tell(job.id)
