"""`fluidcrew up` as people use it: what a run does is on its console, and as JSON nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.environment import CHECKOUT
from deploy.local.ports import free_port

GIVEN = ("NATS_URL", "DATABASE_URL", "S3_ENDPOINT_URL", "LLM_DEFAULT_PROVIDER", "API_KEY", "FLUIDCREW_URL")
PLAN = b'[{"id": "brief", "title": "The brief"}]'


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    home = Path(tempfile.mkdtemp(prefix="fluidcrew-console-"))
    ports = {"PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}
    yield {k: v for k, v in os.environ.items() if k not in GIVEN} | ports | {"FLUIDCREW_HOME": str(home)}
    shutil.rmtree(home, ignore_errors=True)


async def typed(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fluidcrew", *arguments),
        cwd=CHECKOUT,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_what_a_run_does_is_on_the_console_and_in_json_every_line_is_an_object(
    environment: dict[str, str],
) -> None:
    up = await typed("up", **environment | {"LOG_FORMAT": "json"})
    assert up.stdout is not None
    records: list[dict[str, Any]] = []

    async def until(event: str) -> None:
        while not records or not records[-1]["event"].startswith(event):
            line = await asyncio.wait_for(up.stdout.readline(), 60)  # type: ignore[union-attr]
            assert line, await up.stderr.read()  # type: ignore[union-attr]
            records.append(json.loads(line))

    try:
        await until("ready")
        run = await typed("run", "A study", "--file", "-", **environment)
        out, err = await run.communicate(PLAN)
        assert b"accepted" in out, err
        await until("run.completed")
    finally:
        up.terminate()
        rest, _ = await asyncio.wait_for(up.communicate(), 60)
    records += map(json.loads, rest.splitlines())
    told = [record["event"] for record in records if record["source"] == "facts"]
    wanted = ["run.queued", "run.started", "node.started", "node.completed", "run.completed"]
    assert [event for event in told if event in wanted] == wanted
    assert "http.answered" not in {record["event"] for record in records}, "what went well is no news"
    assert (up.returncode, records[-1]["event"]) == (0, "stopped")
