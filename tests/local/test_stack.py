"""The stack on servers of somebody else, and what it publishes for the command line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import nats
import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError

from chassis.roles import RolesRefused
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from deploy.local.environment import BadEnvironment
from deploy.local.home import Home
from deploy.local.stack import Stack
from deploy.local.supervisor import instances

SERVICES = ("gateway", "planner")


@pytest.fixture
def external(database: Database, nats_server: NatsServer, object_store_settings: dict[str, str]) -> dict[str, str]:
    return object_store_settings | {
        "NATS_URL": nats_server.url(),
        "DATABASE_URL": database.url.replace("postgresql://", "postgresql+asyncpg://"),
        "GATEWAY_DATABASE_URL": database.url_for("gateway"),
        "PLANNER_DATABASE_URL": database.url_for("planner"),
        "OPENAI_API_KEY": "kept",
    }


@pytest.fixture
async def stacked(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, str]], Stack]]:
    made: list[Stack] = []

    def build(environ: dict[str, str]) -> Stack:
        made.append(Stack(Home(tmp_path / "home"), environ, SERVICES, lambda source, line: None))
        return made[-1]

    yield build
    for stack in made:
        await stack.stop()


async def test_given_urls_replace_every_embedded_part(
    external: dict[str, str], stacked: Callable[[dict[str, str]], Stack]
) -> None:
    stack = stacked(external)
    await stack.start()
    assert stack.parts == {}
    env = stack.env_for("planner")
    assert env["DATABASE_URL"] == external["PLANNER_DATABASE_URL"]
    assert env["NATS_URL"] == external["NATS_URL"]
    assert env["S3_ENDPOINT_URL"] == external["S3_ENDPOINT_URL"]
    assert env["OPENAI_API_KEY"] == "kept"
    assert "GATEWAY_DATABASE_URL" not in env


async def test_a_port_that_only_one_service_could_have_is_passed_on_for_one_service_only(
    external: dict[str, str], tmp_path: Path
) -> None:
    said: list[str] = []
    ports = {"HEALTH_PORT": "9000", "PLANNER_HEALTH_PORT": "9001"}
    stack = Stack(Home(tmp_path / "home"), external | ports, SERVICES, lambda source, line: said.append(line))
    await stack.start()
    try:
        assert "HEALTH_PORT" not in stack.env_for("planner")
        assert stack.env_for("planner")["PLANNER_HEALTH_PORT"] == "9001"
        assert any("HEALTH_PORT is not passed on" in line and "PLANNER_HEALTH_PORT" in line for line in said)
    finally:
        await stack.stop()


async def test_a_secret_in_a_file_is_passed_on_once(
    external: dict[str, str], stacked: Callable[[dict[str, str]], Stack], tmp_path: Path
) -> None:
    file = tmp_path / "nats"
    file.write_text(external.pop("NATS_URL"))
    stack = stacked(external | {"NATS_URL_FILE": str(file)})
    await stack.start()
    env = stack.env_for("planner")
    assert env["NATS_URL"] == file.read_text()
    assert "NATS_URL_FILE" not in env


async def test_how_another_store_is_reached_is_passed_on_unless_the_embedded_one_is_used(
    external: dict[str, str], stacked: Callable[[dict[str, str]], Stack]
) -> None:
    token = {"S3_SESSION_TOKEN": "a token", "S3_ADDRESSING_STYLE": "virtual", "AWS_SESSION_TOKEN_FILE": "/a/file"}
    given = stacked(external | token)
    await given.start()
    assert token.items() <= given.env_for("planner").items()
    await given.stop()
    own = stacked({name: value for name, value in (external | token).items() if name != "S3_ENDPOINT_URL"})
    await own.start()
    assert list(own.parts) == ["s3"]
    assert not token.keys() & own.env_for("planner").keys()


async def test_a_fleets_roles_are_not_taken_over(
    external: dict[str, str], stacked: Callable[[dict[str, str]], Stack], database: Database
) -> None:
    del external["PLANNER_DATABASE_URL"]
    with pytest.raises(RolesRefused, match="PLANNER_DATABASE_URL"):
        await stacked(external).start()
    connection = await asyncpg.connect(database.url_for("planner"))  # its password is what it was
    await connection.close()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 48 MB, for those who may mount one."""
    directory = Path(tempfile.mkdtemp(prefix="fluidcrew-small-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        directory.rmdir()
        pytest.skip("needs a file system of its own, and none can be mounted here")
    yield directory
    subprocess.run(["umount", directory], check=True)
    directory.rmdir()


async def test_the_bus_works_again_once_a_full_disk_has_space(external: dict[str, str], small_disk: Path) -> None:
    """nats-server alone would refuse for ever: a stream that could not be written stays refused."""
    said: list[str] = []
    del external["NATS_URL"]
    stack = Stack(Home(small_disk / "home"), external, SERVICES, lambda source, line: said.append(line))
    await stack.start()
    client = await nats.connect(stack.nats_urls["keeper"], max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        patient, js = client.jetstream(timeout=60), client.jetstream(timeout=0.5)
        await patient.add_stream(name="EVENTS", subjects=["evt.>"])
        assert (await patient.publish("evt.before", b"kept")).seq == 1
        fill(small_disk / "fill")
        await eventually(lambda: refused(js), what="a refusal")
        await eventually(lambda: any("no space left" in line for line in said), what="a line about the disk")
        (small_disk / "fill").unlink()
        ack = await eventually(lambda: js.publish("evt.after", b"new"), what="an accepted message")
        assert ack.seq > 1
        assert (await patient.get_msg("EVENTS", seq=1)).data == b"kept"
    finally:
        await client.close()
        await stack.stop()


def fill(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)


async def refused(js: JetStreamContext) -> bool:
    try:
        await js.publish("evt.large", b"x" * 60_000)
    except (NatsTimeout, APIError):
        return True
    return False


async def test_the_command_line_finds_the_stack_while_it_runs(
    external: dict[str, str], stacked: Callable[[dict[str, str]], Stack]
) -> None:
    stack = stacked(external | {"PORT": "8123"})
    await stack.start()
    file = stack.home.path / "stack.json"
    facts = json.loads(file.read_text())
    assert facts["pid"] == os.getpid()
    assert facts["api_url"] == "http://127.0.0.1:8123"
    assert facts["nats_url"] == external["NATS_URL"]
    await stack.stop()
    assert not file.exists()


def test_a_scale_that_makes_no_sense_is_refused() -> None:
    assert instances(SERVICES, {"planner": 3}) == {"gateway": 1, "planner": 3}
    with pytest.raises(BadEnvironment, match="services are gateway, planner"):
        instances(SERVICES, {"executer": 2})
    with pytest.raises(BadEnvironment, match="from 0 to 32"):
        instances(SERVICES, {"planner": 99})
