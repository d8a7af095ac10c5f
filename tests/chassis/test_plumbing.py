"""Blobs, migrations, logs and health: the small parts that every service leans on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import cast

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
from contracts.errors import Rejection
from deploy.local.home import Home


@pytest.fixture
def settings(object_store_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)
    return ServiceSettings(nats_url="nats://x", database_url="postgresql://x")


def test_what_killed_test_runs_left_goes_and_nobody_elses_does(tmp_path: Path) -> None:
    killed, running, beginning, young, old = homes = [Home(tmp_path / f"{PREFIX}{n}") for n in range(5)]
    for home in (*homes, other := Home(tmp_path / "other")):
        home.prepare()
    for home in (killed, beginning):  # which has made its lock, and is about to take it
        with home.locked():
            pass
    with running.locked():
        for home in (killed, running, old):
            os.utime(home.path, (0, 0))
        sweep(tmp_path)
        left = {home.path for home in (*homes, other) if home.path.exists()}
        assert left == {running.path, beginning.path, young.path, other.path}


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
        ("://a:" * 100_000, "://a:" * 100_000),  # to its end from each of them, minutes
    ],
    ids=["address", "password", "key of the API", "bearer", "long"],
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
