"""Bytes that a service keeps: put once, never deleted while somebody names or wants them, and gone when nobody does."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from chassis.blobs import Blobs
from chassis.depot import Depot, Strays
from chassis.objects import Kept, Objects
from chassis.postgres import Pool, create_pool
from chassis.settings import ServiceSettings
from chassis.testing.servers import Database
from contracts.errors import Code, Rejection, RetryLater

NAMED, UNNAMED = b"named!", b"not named"  # by their size
TEXT = "text/plain"
NOW = 0.0
A_MINUTE_AGO = "update objects set wanted_at = wanted_at - interval '1 minute'"


def key(company: str, sha256: str) -> str:
    return f"{company}/things/{sha256}"


KEPT = Kept("things", key, f"o.size = {len(NAMED)}")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """The publisher's: its schema has the table."""
    pool = await create_pool(database.url_for("publisher"), "publisher")
    yield pool
    await pool.close()


@pytest.fixture
async def blobs(object_store_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Blobs]:
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)
    blobs = Blobs(ServiceSettings(nats_url="nats://x", database_url="postgresql://x"))
    yield blobs
    await blobs.aclose()


@pytest.fixture
def company() -> str:
    """The store is shared by all tests of a worker."""
    return f"c-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def depot(blobs: Blobs, pool: Pool) -> Depot:
    return Depot(blobs, pool, KEPT)


@pytest.fixture
def objects(pool: Pool) -> Objects:
    return Objects(pool, KEPT)


async def stored(depot: Depot, company: str) -> set[str]:
    """By sha256: what is in the store."""
    place = depot.place(company)
    return {each.removeprefix(place) async for page in depot.blobs.pages(place, -60.0) for each in page}


async def test_what_is_kept_is_put_once_and_read_back(depot: Depot, company: str) -> None:
    sha256 = await depot.keep(company, NAMED, TEXT)
    assert await depot.want(company, {sha256: len(NAMED)}) == set()
    assert await depot.keep(company, NAMED, TEXT) == sha256
    assert await stored(depot, company) == {sha256}
    assert await depot.read(company, sha256, len(NAMED)) == NAMED


async def test_what_was_wanted_and_never_put_must_be_put_by_the_next(depot: Depot, company: str) -> None:
    sizes = {"a" * 64: 1, "b" * 64: 2}
    assert await depot.want(company, sizes) == set(sizes)
    await depot.stored(company, "a" * 64)
    assert await depot.want(company, sizes) == {"b" * 64}


async def test_only_what_lies_in_our_place_is_taken(depot: Depot, company: str) -> None:
    elsewhere = await depot.blobs.put(UNNAMED, company=f"{company}/other", content_type=TEXT)
    with pytest.raises(Rejection, match="is not where things are stored") as refused:
        await depot.take(company, elsewhere)
    assert refused.value.failure.code == Code.INVALID
    ours = await depot.blobs.put(UNNAMED, company=f"{company}/things", content_type=TEXT)
    await depot.take(company, ours)
    assert await depot.want(company, {ours.sha256: ours.size}) == set()


async def test_who_wants_what_is_doomed_waits_until_it_is_gone(depot: Depot, objects: Objects, company: str) -> None:
    sha256 = await depot.keep(company, UNNAMED, TEXT)
    assert await objects.doom_unused(company, NOW, 10) == [(company, sha256, len(UNNAMED))]
    with pytest.raises(RetryLater, match="being removed right now"):
        await depot.keep(company, UNNAMED, TEXT)
    assert await objects.doomed(company, [sha256]) == {sha256: len(UNNAMED)}
    await depot.delete(company, sha256, unless_younger_than=-60.0)
    await objects.forget(company, [sha256])
    assert await stored(depot, company) == set()
    assert await depot.keep(company, UNNAMED, TEXT) == sha256
    assert await stored(depot, company) == {sha256}


async def test_what_somebody_names_or_wanted_lately_is_not_doomed(
    depot: Depot, objects: Objects, pool: Pool, company: str
) -> None:
    named, old = await depot.keep(company, NAMED, TEXT), await depot.keep(company, UNNAMED, TEXT)
    await pool.execute(A_MINUTE_AGO)
    young = await depot.keep(company, b"wanted a moment ago", TEXT)
    assert [sha256 for _, sha256, _ in await objects.unused(company, 30.0, 10)] == [old]
    assert await objects.doom(company, [named, old, young], 30.0) == ({old}, True)
    assert await objects.doom(company, [named, old], 30.0) == ({old}, False), "asked again, it is doomed still"
    assert [sha256 for _, sha256, _ in await objects.doom_unused(None, NOW, 10)] == [young]


async def test_the_oldest_are_looked_at_and_what_is_named_among_them_hides_nobody_for_long(
    depot: Depot, objects: Objects, pool: Pool, company: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.objects.AT_ONCE", 2)
    monkeypatch.setattr("chassis.objects.LOOKS", 1)
    for age in ("3 minutes", "2 minutes"):
        await depot.want(company, {f"named for {age}": len(NAMED)})
        await pool.execute(
            "update objects set wanted_at = now() - $1::text::interval where sha256 = $2", age, f"named for {age}"
        )
    await depot.want(company, {"not named": len(UNNAMED)})
    await pool.execute(A_MINUTE_AGO)
    assert await objects.doom_unused(company, 30.0, 10) == [], "two were looked at"
    assert await objects.doom_unused(company, 30.0, 10) == [(company, "not named", len(UNNAMED))]
    monkeypatch.setattr("chassis.objects.LOOKS", 9)
    await depot.want(company, {f"{n}": len(UNNAMED) for n in range(5)})
    await pool.execute(A_MINUTE_AGO)
    assert len(await objects.doom_unused(company, 30.0, 3)) == 3, "no more than were asked for"
    assert len(await objects.doom_unused(company, 30.0, 3)) == 2


async def test_wanting_it_again_keeps_it_from_being_doomed(
    depot: Depot, objects: Objects, pool: Pool, company: str
) -> None:
    sha256 = await depot.keep(company, UNNAMED, TEXT)
    await pool.execute(A_MINUTE_AGO)
    await depot.want(company, {sha256: len(UNNAMED)})
    assert await objects.doom_unused(company, 30.0, 10) == []


async def test_strays_go_once_they_are_old_and_nothing_else_does(depot: Depot, pool: Pool, company: str) -> None:
    known = await depot.keep(company, UNNAMED, TEXT)
    stray = await depot.blobs.put(b"put, and never told of", company=f"{company}/things", content_type=TEXT)
    other = await depot.blobs.put(b"another's", company=f"{company}/other", content_type=TEXT)
    async with pool.acquire() as connection:
        assert await Strays(depot).step(connection, 10) == 0, "it may be named yet"
        rule = Strays(depot, old=-60.0)
        assert await rule.step(connection, 10) == 1
        assert await rule.step(connection, 10) == 0, "not again before tomorrow"
    assert await stored(depot, company) == {known}
    assert stray.sha256 != known
    assert await depot.blobs.get(other) == b"another's"
