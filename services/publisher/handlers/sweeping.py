"""Retention: what is beyond what is kept goes, on somebody's order or by itself; what it will remove can be seen before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID, uuid4

from chassis.context import Context
from chassis.depot import Depot
from chassis.job_table import Job, NotYet
from chassis.jobs import Jobs
from chassis.postgres import Connection, Pool
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import RetryLater
from contracts.page import Page
from contracts.previews import ListRemovals, Removal, Sweep, SweepReport
from services.publisher.domain.retention import Kept, beyond, ended
from services.publisher.handlers.removing import drop, of_artifact, of_preview, tell_of_artifacts
from services.publisher.store.removals import RemovalStore, SiteKey
from services.publisher.store.sites import SiteStore

DELETE = "delete"  # the job
LONGEST_PAUSE = 10.0  # seconds between attempts
MOST = 1_000  # items of a sweep
STEP = 100  # items of a transaction that nobody has ordered
UNUSED = "nothing names it any more"
DELETED = "its task was deleted"


class Scope(NamedTuple):
    """Of what is looked at; None: all there is."""

    company: str | None = None
    task_id: UUID | None = None


class Sweeping:
    """`keep` versions of each site and of each artifact; bytes that nobody has wanted for `unused_after` seconds go."""

    def __init__(
        self, uow: UnitOfWork, pool: Pool, jobs: Jobs, depot: Depot, *, keep: int, unused_after: float
    ) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._depot = depot
        self._keep = keep
        self._unused_after = unused_after
        self._young = min(60.0, unused_after)  # what somebody has put anew meanwhile, without asking us, stays
        self._why = f"beyond the {keep} newest versions"

    async def sweep(self, request: Sweep, context: Context) -> SweepReport:
        scope = Scope(request.company, request.task_id)
        if request.dry_run:
            return _report(await self._candidates(scope, MOST + 1), dry_run=True)
        async with self._uow.order(request, context) as tx:
            gone = await self._remove(tx, scope, MOST, request.by or context.actor or None)
            more = len(gone) == MOST and bool(await self._candidates(scope, 1, tx.conn))
            return tx.answer(_report(gone, dry_run=False, more=more))

    async def step(self, most: int) -> int:
        """What retention does by itself, a little at a time."""
        async with self._uow.begin() as tx:
            return len(await self._remove(tx, Scope(), most, None))

    async def removals(self, request: ListRemovals, _: Context) -> Page[Removal]:
        return await RemovalStore(self._pool).page(request)

    async def _candidates(self, scope: Scope, most: int, connection: Connection | None = None) -> list[Removal]:
        db = connection or self._pool
        store = RemovalStore(db)
        found = await _of_deleted_tasks(store, most, scope)
        for site in await store.crowded(self._keep, most, *scope):
            versions = await store.versions(site.company_id, site.task_id)
            found += [of_preview(site.task_id, each, self._why) for each in self._beyond(versions)]
        outdated = await store.outdated(self._keep, max(0, most - len(found)), *scope)
        found += [of_artifact(each, self._why) for each in outdated]
        if scope.task_id is None:
            left = max(0, most - len(found))
            unused = await self._depot.objects(db).unused(scope.company, self._unused_after, left)
            found += [of_object(sha256, size) for _, sha256, size in unused]
        return found[:most]

    async def _remove(self, tx: Tx, scope: Scope, most: int, by: str | None) -> list[Removal]:
        """Up to so many."""
        store = RemovalStore(tx.conn)
        gone = await _remove_of_deleted_tasks(tx, store, most, scope, by)
        for site in await store.crowded(self._keep, most, *scope):
            gone += await _remove_versions(tx, site, self._beyond, most - len(gone), self._why, by)
        outdated = await store.remove_outdated(self._keep, most - len(gone), *scope)
        await tell_of_artifacts(tx, outdated, self._why, by)
        gone += [of_artifact(each, self._why) for each in outdated]
        if scope.task_id is None and len(gone) < most:
            gone += await self._doom(tx, scope.company, most - len(gone))
        return gone

    def _beyond(self, versions: Sequence[Kept]) -> Iterator[Kept]:
        return beyond(versions, self._keep)

    async def _doom(self, tx: Tx, company: str | None, most: int) -> list[Removal]:
        """Marked now, so that nobody begins to use them; deleted by a job, which outlives its worker."""
        doomed: dict[str, list[str]] = {}
        found = await self._depot.objects(tx.conn).doom_unused(company, self._unused_after, most)
        for of, sha256, _ in found:
            doomed.setdefault(of, []).append(sha256)
        for of, sha256s in doomed.items():
            await self._jobs.enqueue(tx, DELETE, str(uuid4()), {"objects": sha256s}, company=of)
        return [of_object(sha256, size) for _, sha256, size in found]

    async def work(self, job: Job) -> None:
        """Delete what was doomed, when the store is there."""
        doomed = await self._depot.objects(self._pool).doomed(job.company, job.payload["objects"])
        try:
            for sha256 in doomed:
                await self._depot.delete(job.company, sha256, unless_younger_than=self._young)
        except RetryLater as away:
            raise NotYet(job.pause(LONGEST_PAUSE), str(away)) from None
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"objects": len(doomed)})
            await self._depot.objects(tx.conn).forget(job.company, list(doomed))
            removals = [of_object(sha256, size) for sha256, size in doomed.items()]
            await RemovalStore(tx.conn).note(job.company, removals, None)


async def _of_deleted_tasks(store: RemovalStore, most: int, scope: Scope) -> list[Removal]:
    found: list[Removal] = []
    for site in await store.abandoned(most, *scope):
        versions = await store.versions(site.company_id, site.task_id)
        found += [of_preview(site.task_id, each, DELETED) for each in ended(versions)]
    left = await store.left_behind(max(0, most - len(found)), *scope)
    return found + [of_artifact(each, DELETED) for each in left]


async def _remove_of_deleted_tasks(
    tx: Tx, store: RemovalStore, most: int, scope: Scope, by: str | None
) -> list[Removal]:
    """Also what came after its task had been deleted."""
    gone: list[Removal] = []
    for site in await store.abandoned(most, *scope):
        gone += await _remove_versions(tx, site, ended, most - len(gone), DELETED, by)
    left = await store.remove_left_behind(most - len(gone), *scope)
    await tell_of_artifacts(tx, left, DELETED, by)
    return gone + [of_artifact(each, DELETED) for each in left]


async def _remove_versions(
    tx: Tx, key: SiteKey, which: Callable[[Sequence[Kept]], Iterator[Kept]], most: int, why: str, by: str | None
) -> list[Removal]:
    """Up to so many of a site, which is locked, and looked at again then."""
    site = await SiteStore(tx.conn).lock(key.company_id, key.task_id)
    if site is None or most <= 0:
        return []
    versions = await RemovalStore(tx.conn).versions(key.company_id, key.task_id)
    gone = list(which(versions))[:most]
    if gone:
        await drop(tx, site, gone, versions, why, by)
    return [of_preview(key.task_id, each, why) for each in gone]


def of_object(sha256: str, size: int) -> Removal:
    return Removal(what="object", id=sha256, task_id=None, version=None, size=size, why=UNUSED)


def _report(items: list[Removal], *, dry_run: bool, more: bool = False) -> SweepReport:
    shown = items[:MOST]
    size = sum(item.size or 0 for item in shown)
    return SweepReport(dry_run=dry_run, items=shown, size=size, more=more or len(items) > MOST)


@dataclass(frozen=True, slots=True)
class OldVersions:
    """What retention does with all of it, a little at a time."""

    sweeping: Sweeping
    name: str = "versions"

    async def step(self, _: Connection, most: int) -> int:
        return await self.sweeping.step(min(most, STEP))
