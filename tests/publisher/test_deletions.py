"""A task that is deleted takes along what it delivered: nothing opens any more, retention removes it, with a record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from chassis.testing.eventually import eventually
from contracts.artifacts import AddArtifact
from contracts.errors import Rejection
from contracts.previews import CreateShare, ListRemovals, ListShares, PinPreview, Share
from contracts.refs import BlobRef
from tests.publisher.conftest import Agent, World, a_case
from tests.publisher.test_retention import stored, sweep
from tests.publisher.test_serving import Browser, browser, common, root

__all__ = ["browser"]
GONE = "its task was deleted"


async def share(world: World, **of: object) -> Share:
    return await world.ask(CreateShare.model_validate({"command_id": uuid4()} | of))


async def test_the_hosts_and_links_of_a_deleted_task_say_that_it_is_gone(browser: Browser) -> None:
    world = browser.world
    site, other = await browser.publish({"index.html": b"<p>one"}), await browser.publish({"index.html": b"<p>two"})
    note = await world.ask(
        AddArtifact(command_id=uuid4(), task_id=site.task_id, name="n.md", ref=await world.put(b"# Note"))
    )
    await world.ask(PinPreview(command_id=uuid4(), preview_id=site.id))
    links = [await share(world, preview_id=site.id), await share(world, artifact_id=note.id)]
    theirs = await share(world, preview_id=other.id)
    addresses = [site.latest_url, site.url, root(site.url), common(site), *(link.url for link in links)]
    assert [(await browser.get(url or "")).status_code for url in addresses] == [200] * 6

    await world.delete(site.task_id)
    await eventually(lambda: _all_answer(browser, addresses, 410), what="the end of its addresses")
    page = await browser.get(site.url or "", accept="text/html")
    assert "Its task was deleted" in page.text
    assert page.headers["cache-control"] == "no-store"
    left = [other.latest_url, other.url, theirs.url]
    assert [(await browser.get(url or "")).status_code for url in left] == [200] * 3
    shares = {each.id: each.revoked_at for each in (await world.ask(ListShares())).items}
    assert {id for id, at in shares.items() if at is None} == {theirs.id}
    told = await world.rows("select count(*)::int as n from outbox where subject like '%preview.unshared%'")
    assert told[0]["n"] == 1, "there are no facts on links to files"
    for refused in ({"preview_id": site.id}, {"artifact_id": note.id}):
        with pytest.raises(Rejection, match="was deleted"):
            await share(world, **refused)
    with pytest.raises(Rejection, match="was deleted"):
        await world.ask(PinPreview(command_id=uuid4(), preview_id=site.id))


async def _all_answer(browser: Browser, addresses: list[str | None], status: int) -> bool:
    return {(await browser.get(url or "")).status_code for url in addresses} == {status}


@pytest.fixture
async def sweeping(world: World) -> AsyncIterator[Browser]:
    """What nothing names is unused at once."""
    async with world.start_publisher(unused_after=0.0), httpx.AsyncClient(timeout=60) as http:
        yield Browser(world, http)


async def test_what_a_deleted_task_delivered_goes_with_a_record_and_nothing_that_others_name(
    sweeping: Browser,
) -> None:
    world, browser = sweeping.world, sweeping
    shared_page = {"index.html": b"<p>the same in both"}
    site, other = await browser.publish(shared_page), await browser.publish(shared_page)
    both, only = await world.put(b"# In both"), await world.put(b"# In one")
    for task, name, ref in (
        (site.task_id, "both.md", both),
        (other.task_id, "both.md", both),
        (site.task_id, "only.md", only),
    ):
        await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name=name, ref=ref))
    await world.ask(PinPreview(command_id=uuid4(), preview_id=site.id))
    assert (await sweep(world)).items == []
    await world.delete(site.task_id)

    shown = await sweep(world, dry_run=True)
    assert {(i.what, i.task_id, i.why) for i in shown.items} == {
        ("preview", site.task_id, GONE),
        ("artifact", site.task_id, GONE),
    }
    done = await sweep(world)
    assert [i.id for i in done.items if i.what != "object"] == [i.id for i in shown.items]
    assert await world.artifacts(task_id=site.task_id) == []
    assert await world.previews(site.task_id) == []
    removals = (await world.ask(ListRemovals(task_id=site.task_id))).items
    assert sorted(r.what for r in removals) == [*["artifact"] * 3, "preview"]
    assert len(await world.artifacts(task_id=other.task_id)) == 2
    await eventually(lambda: _is_gone(world, only), what="the end of what only it had")
    assert await stored(world, both) == [True]
    assert (await browser.get(other.url or "")).status_code == 200
    assert (await browser.get(site.url or "")).status_code == 410, "also when all of it is gone"


async def _is_gone(world: World, ref: BlobRef) -> bool:
    return await stored(world, ref) == [False]


async def test_what_a_deleted_task_delivers_late_goes_as_well(live: World) -> None:
    """A publication that was under way, and results that had not been collected yet."""
    task = live.task()
    case = a_case(task_id=task)
    await live.delete(task)
    agent = Agent(live, case)
    await agent.write("index.html", "<p>late")
    await agent.publish()
    await live.complete(case)
    await live.collected(case, 3)
    await live.ended((await live.previews(task))[0].id)
    assert len((await sweep(live)).items) == 3
    assert await live.artifacts(task_id=task) == []
    assert await live.previews(task) == []
