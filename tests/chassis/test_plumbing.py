"""Blobs, migrations, logs and health: the small parts that every service leans on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog

from chassis import logs
from chassis.blobs import PASSING, STAGED, Blobs
from chassis.health import Health
from chassis.migrate import EditedMigration, migrate
from chassis.postgres import Connection
from chassis.retention import OldObjects, objects_of_every_service
from chassis.settings import ServiceSettings
from chassis.testing.plugin import PREFIX, sweep
from chassis.testing.servers import Database
from contracts.errors import Rejection, RetryLater
from deploy.local.home import Home


@pytest.fixture
def settings(object_store_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)
    return ServiceSettings(nats_url="nats://x", database_url="postgresql://x")


async def test_a_blob_comes_back_as_it_was_stored_and_a_missing_one_is_said(settings: ServiceSettings) -> None:
    blobs = Blobs(settings)
    data = bytes(range(256)) * 1000
    ref = await blobs.put(data, company="default", content_type="application/octet-stream")
    assert await blobs.put(data, company="default", content_type="application/octet-stream") == ref
    assert await blobs.get(ref) == data
    with pytest.raises(Rejection, match="not in the store"):
        await blobs.get(ref.model_copy(update={"key": "default/nothing"}))
    other = await blobs.put(b"other", company="default", content_type="text/plain")
    with pytest.raises(Rejection, match="not what was stored"):
        await blobs.get(ref.model_copy(update={"key": other.key}))
    await blobs.aclose()


async def test_an_object_store_that_is_away_is_a_matter_of_time() -> None:
    gone = ServiceSettings(
        nats_url="nats://x",
        database_url="postgresql://x",
        s3_endpoint_url="http://127.0.0.1:9",
        s3_access_key_id="k",
        s3_secret_access_key="s",
    )
    blobs = Blobs(gone)
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1:9 does not answer"):
        await blobs.put(b"x", company="default", content_type="text/plain")
    await blobs.aclose()


@asynccontextmanager
async def cutting(target: str, after: int) -> AsyncIterator[str]:
    """A way to a server that is lost when so many bytes of an answer have passed."""
    far = urlsplit(target)

    async def onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(far.hostname, far.port)
        asking = asyncio.create_task(onward(reader, requests))
        left = after
        while left and (data := await answers.read(left)):
            left -= len(data)
            writer.write(data)
        asking.cancel()
        writer.close()
        requests.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_an_object_store_that_is_lost_in_the_middle_of_a_body_is_a_matter_of_time(
    settings: ServiceSettings,
) -> None:
    blobs = Blobs(settings)
    ref = await blobs.put(bytes(1_000_000), company="default", content_type="application/octet-stream")
    assert settings.s3_endpoint_url is not None
    async with cutting(settings.s3_endpoint_url, 100_000) as url:
        far = Blobs(settings.model_copy(update={"s3_endpoint_url": url}))
        with pytest.raises(RetryLater, match=r"does not answer: .+"):
            await far.get(ref)
        await far.aclose()
    assert len(await blobs.get(ref)) == 1_000_000
    await blobs.aclose()


def test_what_killed_test_runs_left_goes_and_nobody_elses_does(tmp_path: Path) -> None:
    killed, running, young, old = homes = [Home(tmp_path / f"{PREFIX}{n}") for n in range(4)]
    for home in (*homes, other := Home(tmp_path / "other")):
        home.prepare()
    os.utime(old.path, (0, 0))
    with killed.locked():
        pass
    with running.locked():
        sweep(tmp_path)
        assert {home.path for home in (*homes, other) if home.path.exists()} == {running.path, young.path, other.path}


async def test_the_body_of_a_fact_goes_when_neither_its_message_nor_its_dead_letter_can_still_be_there(
    settings: ServiceSettings,
) -> None:
    blobs = Blobs(settings)
    body = await blobs.put(b"a large fact", company=f"{STAGED}/acme", content_type="application/json")
    result = await blobs.put(b"a large fact", company="acme", content_type="application/json")
    [_, staged] = objects_of_every_service(blobs, settings)
    assert staged.keep == (7 + 30) * 86_400, "the life of a message, and then of a dead letter"
    nothing = cast(Connection, None)
    assert await staged.step(nothing, 500) == 0
    assert await replace(staged, keep=-1).step(nothing, 500) == 1
    with pytest.raises(Rejection):
        await blobs.get(body)
    assert await blobs.get(result) == b"a large fact", "what rows name is none of its business"
    await blobs.aclose()


async def test_what_belonged_to_a_request_goes_by_its_age_and_nothing_else_does(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.blobs.PAGE", 2)
    blobs = Blobs(settings)
    passing = [await blobs.put(b"%d" % n, company=PASSING, content_type="text/plain") for n in range(5)]
    kept = await blobs.put(b"kept", company="rpc", content_type="text/plain")
    nothing = cast(Connection, None)
    assert await OldObjects(blobs, PASSING, 3600).step(nothing, 500) == 0
    assert await blobs.get(passing[0]) == b"0"
    # the store's clock ticks in seconds: what was stored within this one is not yet old
    assert await OldObjects(blobs, PASSING, -1).step(nothing, 3) == 3
    assert await OldObjects(blobs, PASSING, -1).step(nothing, 3) == 2
    for ref in passing:
        with pytest.raises(Rejection):
            await blobs.get(ref)
    assert await blobs.get(kept) == b"kept"
    await blobs.aclose()


async def test_migrations_run_once_however_many_race_and_refuse_an_edited_file(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "0001_things.sql").write_text("create table things (id int primary key);")
    applied = await asyncio.gather(*(migrate(database.url, "racers", tmp_path) for _ in range(4)))
    assert sorted(len(names) for names in applied)[:3] == [0, 0, 0]
    assert "0001_things.sql" in max(applied, key=len)
    assert await migrate(database.url, "racers", tmp_path) == []
    (tmp_path / "0001_things.sql").write_text("create table things (id bigint primary key);")
    with pytest.raises(EditedMigration, match=r"racers/0001_things\.sql was edited"):
        await migrate(database.url, "racers", tmp_path)


async def test_a_migration_that_fails_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    (tmp_path / "0001_half.sql").write_text("create table half (id int); select 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database.url, "halves", tmp_path)
    (tmp_path / "0001_half.sql").write_text("create table half (id int);")
    assert "0001_half.sql" in await migrate(database.url, "halves", tmp_path)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("connect to http://127.0.0.1:8000/tasks", "connect to http://127.0.0.1:8000/tasks"),
        ("nats://planner:hunter2@127.0.0.1:4222", "nats://planner:***@127.0.0.1:4222"),
        ("postgresql://x:p:w@h/db?api_key=k&a=1", "postgresql://x:***@h/db?api_key=***&a=1"),
        ("Authorization: Bearer abc, key sk-abcdefgh1", "Authorization: Bearer *** key ***"),
    ],
)
def test_secrets_are_masked_and_addresses_stay_readable(said: str, shown: str) -> None:
    assert logs._masked(said) == shown


def test_logs_are_json_with_fields_and_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        logs.configure("planner", format="json")
        structlog.get_logger("x").info("task.created", task_id="t1", url="nats://planner:hunter2@127.0.0.1")
        logging.getLogger("library").warning("GET /events?api_key=topsecret failed, Bearer abc.def")
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert (lines[0]["event"], lines[0]["task_id"], lines[0]["service"]) == ("task.created", "t1", "planner")
        everything = json.dumps(lines)
        assert not [s for s in ("hunter2", "topsecret", "abc.def") if s in everything]
    finally:
        logging.getLogger().handlers[:] = before
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def test_a_log_line_for_people_holds_no_orders_for_their_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        logs.configure("planner")
        structlog.get_logger("x").info("task.created", title="\x1b]52;c;c3RvbGVu\x07\x9b2J")
        logging.getLogger("library").warning("cannot parse \x1b[2J")
        said = capsys.readouterr().err
        assert "]52;c;c3RvbGVu" in said
        assert not set("\x07\x1b\x9b") & set(said)
    finally:
        logging.getLogger().handlers[:] = before
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


async def test_health_names_what_is_not_well() -> None:
    health = Health(lambda: 0.0)

    async def fine() -> None:
        return None

    async def broken() -> None:
        raise ConnectionError("refused")

    health.add("nats", fine)
    assert await health.failures() == {}
    health.add("postgres", broken)
    assert await health.failures() == {"postgres": "ConnectionError: refused"}
    health.draining = True
    assert await health.failures() == {"service": "draining"}
