"""The gateway as a process: what it says when it cannot start, and how it stops while somebody watches."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from contracts.executor import GetRun
from deploy.local.ports import free_port
from tests.gateway.builders import a_run_detail
from tests.gateway.conftest import KEY, StartOwner
from tests.gateway.sse import watch

NOWHERE = {"NATS_URL": "nats://127.0.0.1:9", "DATABASE_URL": "postgresql://u@127.0.0.1:9/x"}


@asynccontextmanager
async def process(**environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env=os.environ | environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"GATEWAY_HOST": "0.0.0.0"}, "API_KEY is the default one"),
        ({"GATEWAY_HOST": "0.0.0.0", "API_KEY_FILE": "{empty}"}, "is empty"),
        ({"ENV": "prod"}, "API_KEY is the default one"),
        ({"REQUIRE_API_KEY": "false", "ENV": "prod"}, "REQUIRE_API_KEY=false works only with ENV=dev"),
        ({"PORT": "many"}, "PORT"),
    ],
)
async def test_wrong_settings_are_one_line_and_exit_code_78(
    environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    (empty := tmp_path / "key").touch(0o600)
    given = {name: value.format(empty=empty) for name, value in environment.items()}
    async with process(**NOWHERE, **given) as refused:
        _, errors = await refused.communicate()
        lines = errors.decode().strip().splitlines()
        assert refused.returncode == 78, errors
        assert len(lines) == 1
        assert says in lines[0]


async def test_a_taken_port_is_told_before_anything_else_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        async with process(**NOWHERE, PORT=str(holder.getsockname()[1])) as refused:
            _, errors = await refused.communicate()
            assert refused.returncode == 1
            assert "set PORT to a free port" in errors.decode()


@pytest.mark.parametrize("missing", ["DATABASE_URL", "NATS_URL"])
async def test_told_to_stop_while_it_waits_for_what_it_stands_on_it_stops_at_once(
    nats_server: NatsServer, database: Database, missing: str
) -> None:
    environment = {"NATS_URL": nats_server.url("gateway"), "DATABASE_URL": database.url_for("gateway")}
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never says a word
        scheme, _, place = environment[missing].partition("://")
        user = place.rpartition("@")[0]
        environment[missing] = f"{scheme}://{user}@127.0.0.1:{silent.getsockname()[1]}/x"
        async with process(**environment, PORT="0") as waiting:
            connection, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
            waiting.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(waiting.communicate(), 60)
            connection.close()
    assert waiting.returncode == 0, errors
    assert b"Traceback" not in errors


async def test_on_sigterm_watchers_hear_bye_and_the_process_ends_with_zero(
    nats_server: NatsServer, database: Database, start_owner: StartOwner
) -> None:
    port = free_port()
    environment = {"NATS_URL": nats_server.url("gateway"), "DATABASE_URL": database.url_for("gateway")}
    async with (
        start_owner("executor", {GetRun: lambda _: a_run_detail()}),
        process(**environment, PORT=str(port)) as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}) as client,
    ):

        async def is_up() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_up)
        async with watch(client, f"/events/stream?run_id={uuid4()}") as reader:
            gateway.send_signal(signal.SIGTERM)
            await reader.until_end()
            assert reader.events() == ["bye"]
        assert await asyncio.wait_for(gateway.wait(), 60) == 0
