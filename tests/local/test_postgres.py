"""The embedded Postgres: roles that see their own schema only, and a cluster that survives what happens to laptops."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chassis import roles
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from deploy.local.home import Home
from deploy.local.parts import ready_now
from deploy.local.postgres import Postgres
from deploy.local.process import StartFailed


@pytest.fixture
def home() -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="fluidcrew-pg-")))
    made.prepare()
    yield made
    shutil.rmtree(made.path, ignore_errors=True)


@pytest.fixture
def postgres(home: Home) -> Iterator[Postgres]:
    server = Postgres(home)
    server.launch()
    ready_now(server)
    yield server
    server.child.stop_now()


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_role_owns_its_schema_and_reads_no_other(postgres: Postgres) -> None:
    await roles.create_database(postgres.url(), "fluidcrew")
    made = await roles.bootstrap_roles(postgres.url("fluidcrew"), {"planner": "p", "executor": "e"}, ours=True)
    await query(made.urls["planner"], "create table plans (id int)")
    assert await query(made.urls["planner"], "select count(*) from planner.plans") == 0
    for statement in (
        "select count(*) from planner.plans",
        "create table planner.intruder (id int)",
        "create table public.intruder (id int)",
        "create schema intruder",
        "drop schema planner cascade",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await query(made.urls["executor"], statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await query(roles.url_for(postgres.url("postgres"), "planner", "p"), "create table public.intruder (id int)")


async def test_every_role_can_use_vectors_and_speaks_utf8(postgres: Postgres) -> None:
    await roles.create_database(postgres.url(), "fluidcrew")
    made = await roles.bootstrap_roles(postgres.url("fluidcrew"), {"rag": "r"}, ours=True)
    assert made.warning == ""
    assert await query(made.urls["rag"], "select '[1,2]'::vector <-> '[1,4]'::vector") == 2.0
    assert await query(made.urls["rag"], "show server_encoding") == "UTF8"


async def test_the_password_is_asked_for(postgres: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(roles.url_for(postgres.url(), "postgres", "wrong"), "select 1")


async def test_a_foreign_server_keeps_the_passwords_of_its_roles(postgres: Postgres) -> None:
    await roles.bootstrap_roles(postgres.url(), {"planner": "theirs"}, ours=True)
    with pytest.raises(roles.RolesRefused, match="PLANNER_DATABASE_URL"):
        await roles.bootstrap_roles(postgres.url(), {"planner": "mine"})
    assert await query(roles.url_for(postgres.url(), "planner", "theirs"), "select current_user") == "planner"


async def test_without_the_right_to_create_roles_services_share_one_and_are_told_so(postgres: Postgres) -> None:
    await query(postgres.url(), "create role tenant login password 't'")
    await query(postgres.url(), "grant create on database postgres to tenant")
    tenant = roles.url_for(postgres.url(), "tenant", "t").replace("postgresql://", "postgresql+asyncpg://")
    made = await roles.bootstrap_roles(tenant, {"planner": "p", "executor": "e"})
    assert "no roles" in made.warning
    assert set(made.urls) == {"planner", "executor"}
    assert await query(made.urls["planner"], "select current_user") == "tenant"
    assert (
        await query(made.urls["planner"], "select count(*) from pg_namespace where nspname in ('planner', 'executor')")
        == 2
    )


async def test_an_administrator_who_is_no_superuser_can_make_the_roles(postgres: Postgres) -> None:
    await query(postgres.url(), "create role rds login createrole password 'r'")
    await query(postgres.url(), "grant create, connect on database postgres to rds with grant option")
    made = await roles.bootstrap_roles(roles.url_for(postgres.url(), "rds", "r"), {"planner": "p"})
    assert await query(made.urls["planner"], "select current_user") == "planner"
    await query(made.urls["planner"], "create table planner.plans (id int)")


async def test_what_was_committed_survives_kill_9(postgres: Postgres) -> None:
    await query(postgres.url(), "create table kept (id int)")
    await query(postgres.url(), "insert into kept values (7)")
    postgres.child.signal(signal.SIGKILL)
    await eventually(lambda: not postgres.child.running)

    async def back() -> object:
        if not postgres.child.running:  # the old backends may still hold the shared memory for a moment
            postgres.launch()
        return await query(postgres.url(), "select id from kept")

    assert await eventually(back) == 7


async def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(postgres: Postgres) -> None:
    postgres.child.stop_now()
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{postgres.data}\n")
    postgres.launch()
    ready_now(postgres)
    assert await query(postgres.url(), "select 1") == 1


async def test_an_interrupted_initdb_is_made_again(home: Home) -> None:
    half = home.path / "postgres" / "data.unfinished"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    server = Postgres(home)
    server.launch()
    ready_now(server)
    try:
        assert await query(server.url(), "select 1") == 1
    finally:
        server.child.stop_now()


async def test_each_test_gets_a_migrated_database_of_its_own(database: Database) -> None:
    assert database.name in str(database)
    found = await query(database.url, "select count(*) from information_schema.tables where table_name = 'outbox'")
    assert found == len(
        [u for u in database.services if await query(database.url, f"select to_regclass('{u}.outbox')")]
    )
    assert await query(database.url_for("planner"), "select current_user") == "planner"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may not run Postgres as itself")
async def test_as_root_a_private_home_is_no_obstacle(home: Home) -> None:
    private = home.path / "private"
    private.mkdir(mode=0o700)
    inner = Home(private / "data")
    inner.prepare()
    server = Postgres(inner)
    try:
        server.launch()
        ready_now(server)
        assert not server.directory.is_relative_to(inner.path)
        assert server.directory == Postgres(inner).directory
        assert await query(server.url(), "select 1") == 1
    finally:
        server.child.stop_now()
        shutil.rmtree(server.directory, ignore_errors=True)


async def test_a_full_disk_is_named_as_such_and_nothing_half_stays(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    home.prepare()
    server = Postgres(home)
    with pytest.raises(StartFailed, match=r"no space left .* FLUIDCREW_HOME"):
        server.launch()
    assert not server.data.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB where one can be mounted, else a limit on the size of files: initdb needs more."""
    directory = Path(tempfile.mkdtemp(prefix="fluidcrew-small-"))
    directory.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", directory], check=False, capture_output=True
    )
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if mounted.returncode:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024 * 1024, limit[1]))
    yield directory
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    if not mounted.returncode:
        subprocess.run(["umount", directory], check=True)
    shutil.rmtree(directory, ignore_errors=True)
