"""Retention: what is beyond what is kept goes, with a record; what is pinned, shared or named by anything stays."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from chassis.depot import Depot, Strays
from chassis.testing.eventually import eventually
from chassis.testing.refusing import refused
from contracts.artifacts import AddArtifact, RemoveArtifact, object_key
from contracts.errors import Code, Rejection
from contracts.previews import CreateShare, ListRemovals, PinPreview, PreviewState, Sweep, SweepReport
from contracts.refs import BlobRef
from contracts.review import ReviewCase
from services.publisher.store.objects import DELIVERABLES
from services.publisher.store.removals import RemovalStore
from tests.publisher.conftest import NEWCOMER, Agent, World, a_case, reused
from tests.publisher.test_previews import listed, published


async def sweep(world: World, **fields: object) -> SweepReport:
    return await world.ask(Sweep.model_validate({"command_id": uuid4(), "by": "bea", "dry_run": False} | fields))


async def stored(world: World, *refs: BlobRef) -> list[bool]:
    found = []
    for ref in refs:
        try:
            await world.executor.blobs.get(ref)
            found.append(True)
        except Rejection:
            found.append(False)
    return found


async def test_the_newest_versions_stay_and_what_is_pinned_or_shared(world: World) -> None:
    async with world.start_publisher(keep=2):
        task, other = world.task(), world.task()
        made = [await published(world, task, index=f"<p>{number}") for number in range(6)]
        await published(world, other, index="<p>other")
        await world.ask(PinPreview(command_id=uuid4(), preview_id=made[0].id))
        await world.ask(CreateShare(command_id=uuid4(), preview_id=made[1].id))
        await world.ended((await world.submit(task, b"")).id, PreviewState.FAILED)

        shown = await sweep(world, dry_run=True)
        previews = [(i.version, i.task_id) for i in shown.items if i.what == "preview"]
        assert sorted(previews) == [(3, task), (4, task)]
        assert all("2 newest" in i.why for i in shown.items)
        assert len(await world.previews(task)) == 7, "it was only shown"

        order = Sweep(command_id=uuid4(), dry_run=False, by="bea")
        done = await world.ask(order)
        assert [i.id for i in done.items] == [i.id for i in shown.items]
        assert done.size == shown.size
        assert await world.ask(order) == done
        assert [p.version for p in await world.previews(task)] == [1, 2, 5, 6, 7]
        assert [p.latest for p in await world.previews(task)] == [False, False, False, True, False]
        assert (await sweep(world)).items == []
        removals = (await world.ask(ListRemovals(task_id=task))).items
        assert sorted((r.what, r.version) for r in removals) == [
            *[("artifact", 3), ("artifact", 4)],
            *[("preview", 3), ("preview", 4)],
        ]
        assert all(r.at is not None for r in removals)
        oldest = (await world.ask(ListRemovals(task_id=task, order_by="at"))).items
        assert oldest == sorted(removals, key=lambda r: str(r.at))
        async with refused(Code.INVALID):
            await world.ask(ListRemovals(order_by="why"))


async def test_old_versions_of_an_artifact_go_as_well(world: World) -> None:
    async with world.start_publisher(keep=2):
        task = world.task()
        for number in range(4):
            ref = await world.put(f"# {number}".encode())
            made = await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="r.md", ref=ref))
            if number == 0:
                await world.ask(CreateShare(command_id=uuid4(), artifact_id=made.id))
        shown = await sweep(world, dry_run=True)
        assert [(i.what, i.version) for i in shown.items] == [("artifact", 2)]
        await sweep(world, task_id=uuid4())
        assert len(await world.artifacts(task_id=task)) == 4
        await sweep(world, task_id=task)
        assert [a.version for a in await world.artifacts(task_id=task)] == [1, 3, 4]


async def test_what_is_shared_while_a_sweep_looks_for_it_stays(world: World) -> None:
    async with world.start_publisher(keep=1) as chassis:
        task = world.task()
        ref = await world.put(b"# Shared at the last moment")
        add = {"task_id": task, "name": "r.md", "ref": ref}
        made = [await world.ask(AddArtifact(command_id=uuid4(), **add)) for _ in range(3)]
        store = RemovalStore(chassis.pool)
        assert [g.version for g in await store.outdated(1, 10, None, task)] == [1, 2]
        await world.ask(CreateShare(command_id=uuid4(), artifact_id=made[0].id))
        assert [g.version for g in await store.remove_free([made[0].id, made[1].id])] == [2]
        assert [a.version for a in await world.artifacts(task_id=task)] == [1, 3]


async def test_bytes_go_when_nothing_names_them_any_more_and_not_before(world: World) -> None:
    async with world.start_publisher(unused_after=0.0) as chassis:
        task = world.task()
        ref, kept = await world.put(b"# Gone"), await world.put(b"# Kept")
        gone = await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="gone.md", ref=ref))
        twice = await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="twice.md", ref=kept))
        await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="kept.md", ref=kept))
        assert (await sweep(world)).items == []
        for each in (gone, twice):
            await world.ask(RemoveArtifact(command_id=uuid4(), artifact_id=each.id))
        shown = await sweep(world, dry_run=True)
        assert [(i.what, i.id) for i in shown.items] == [("object", ref.sha256)]
        assert await stored(world, ref, kept) == [True, True]

        await sweep(world)
        await eventually(lambda: _is_deleted(world, ref), what="the deletion of what nothing names")
        assert await stored(world, ref, kept) == [False, True]
        await eventually(lambda: _is_noted(world, ref), what="its record")
        again = await world.put(b"# Gone")
        await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="back.md", ref=again))
        assert await stored(world, again) == [True]
        assert chassis.health is not None


async def _is_deleted(world: World, ref: BlobRef) -> bool:
    return await stored(world, ref) == [False]


async def _is_noted(world: World, ref: BlobRef) -> bool:
    return ref.sha256 in {r.id for r in (await world.ask(ListRemovals())).items}


async def test_what_a_site_is_made_of_stays_when_its_archive_is_gone(world: World) -> None:
    async with world.start_publisher(unused_after=0.0, keep=1):
        task = world.task()
        first = await published(world, task, index="<p>same", old="<p>old")
        await published(world, task, index="<p>same")
        await sweep(world)
        rows = await world.rows("select objects from manifests")
        assert len(rows) == 1
        await eventually(lambda: _nothing_waits(world), what="the deletions")
        left = {row["sha256"] for row in await world.rows("select sha256 from objects")}
        assert set(rows[0]["objects"]) <= left
        assert len(left) == 2, "the page, and the archive it came in"
        assert first.id not in {p.id for p in await world.previews(task)}


async def _nothing_waits(world: World) -> bool:
    return not await world.rows("select 1 from jobs where state in ('queued', 'running')")


async def test_what_was_stored_and_never_named_goes_and_nothing_else(world: World) -> None:
    async with world.start_publisher() as chassis:
        task = world.task()
        stray, named = await world.put(b"# Stray"), await world.put(b"# Named")
        await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="named.md", ref=named))
        other = await world.executor.blobs.put(b"another's", company="default", content_type="text/plain")
        depot = Depot(chassis.blobs, chassis.pool, DELIVERABLES)
        async with chassis.pool.acquire() as connection:
            assert await Strays(depot).step(connection, 500) == 0, "it may be named yet"
            rule = Strays(depot, old=-2.0)  # the clock of the store counts whole seconds
            assert await rule.step(connection, 500) == 1
            assert await rule.step(connection, 500) == 0
        assert await stored(world, stray, named, other) == [False, True, True]


async def test_the_first_that_a_company_sent_goes_too_when_nobody_said_what_it_is(world: World) -> None:
    place = object_key(NEWCOMER, "").removesuffix("/")
    async with world.start_publisher() as chassis:
        ref = await world.executor.blobs.put(b"# First", company=place, content_type="text/markdown")
        rule = next(each for each in chassis.retention._rules if isinstance(each, Strays))
        rule.old = -2.0
        async with chassis.pool.acquire() as connection:
            await rule.step(connection, 500)
        assert await stored(world, ref) == [False]


async def test_what_was_removed_stays_on_record(world: World) -> None:
    async with world.start_publisher(keep=1):
        task = world.task()
        for number in range(2):
            await published(world, task, index=f"<p>{number}")
        await sweep(world)
        for statement in ("delete from removals", "update removals set why = 'never'"):
            with pytest.raises(asyncpg.RaiseError, match="stays on record"):
                await world.rows(statement)


async def test_retention_sweeps_by_itself_and_forgets_what_attempts_wrote_that_never_completed(world: World) -> None:
    async with world.start_publisher(keep=1, retention_every_s=0.2, retention_staged_days=1e-9):
        task = world.task()
        await Agent(world, a_case()).write("a.md", "a")
        made = [await published(world, task, index=f"<p>{number}") for number in range(3)]
        await eventually(lambda: _versions_are(world, task, [3]), what="a sweep nobody ordered")
        await eventually(lambda: _none_staged(world), what="what was staged to be forgotten")
        assert await listed(world, (await world.previews(task))[0])
        assert made[2].version == 3


async def _versions_are(world: World, task: object, versions: list[int]) -> bool:
    return [p.version for p in await world.previews(task)] == versions  # type: ignore[arg-type]


async def _none_staged(world: World) -> bool:
    return not await world.rows("select 1 from staged")


async def test_sites_full_of_what_is_shared_do_not_hide_the_ones_behind_them(world: World) -> None:
    async with world.start_publisher(keep=1) as chassis:
        full, other = world.task(), world.task()
        for number in range(3):
            each = await published(world, full, index=f"<p>{number}")
            await world.ask(CreateShare(command_id=uuid4(), preview_id=each.id))
        for number in range(2):
            await published(world, other, index=f"<p>{number}")
        store = RemovalStore(chassis.pool)
        assert [site.task_id for site in await store.crowded(1, 1, None, None)] == [other]
        assert [(i.what, i.task_id) for i in (await sweep(world)).items] == [("preview", other)]


async def test_a_version_that_the_newest_run_took_over_stays_however_old_it_is(world: World) -> None:
    async with world.start_publisher(keep=1):
        task = world.task()
        made, taken_over, next_run = (a_case(task_id=task), *(a_case(task_id=task, attempt=0) for _ in range(2)))
        agent = Agent(world, made)
        await agent.write("index.html", "<p>of the first run")
        await agent.publish()
        await world.complete(made)
        site = next(a for a in (await world.collected(made, 3)).values() if a.preview_id is not None)
        await world.ended(site.preview_id)  # type: ignore[arg-type]
        await _take_over(world, made, taken_over)
        for number in range(2):
            await published(world, task, index=f"<p>{number}")
        assert _swept(await sweep(world, dry_run=True)) == [2]
        assert _swept(await sweep(world)) == [2]
        assert [p.version for p in await world.previews(task)] == [1, 3]
        named = [a for a in await world.artifacts(run_id=taken_over.run_id) if a.preview_id is not None]
        assert [a.preview_id for a in named] == [site.preview_id]

        await _take_over(world, taken_over, next_run)
        await world.complete(a_case(task_id=task, key="other"), last := a_case(task_id=task, key="other"))
        await world.collected(last)
        assert _swept(await sweep(world)) == [1], "two runs without it came later"


def _swept(report: SweepReport) -> list[int | None]:
    return [each.version for each in report.items if each.what == "preview"]


async def _take_over(world: World, earlier: ReviewCase, later: ReviewCase) -> None:
    world.others.cases[(later.node_id, 1)] = later
    await world.tell(reused(later, earlier))
    await world.collected(later, 3)
