"""The commands a newcomer types, as processes without a terminal, and those of the predecessors."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys

import pytest

from contracts.permissions import CLI
from contracts.subjects import parse
from deploy.local.environment import CHECKOUT
from tests.system.api import Api
from tests.system.defaults import API_KEY, INHERITED
from tests.system.typed import COMMAND, said_by
from tests.system.world import World


@pytest.fixture
def surroundings(world: World) -> dict[str, str]:
    return {"FLUIDCREW_URL": world.url(), "API_KEY": API_KEY, "NATS_URL": world.nats.url(CLI)}


async def test_the_predecessor_s_command_plans_and_runs_a_title(
    world: World, api: Api, surroundings: dict[str, str]
) -> None:
    title = "Écrire une étude de marché"
    said = await said_by(
        sys.executable, "-m", "orchestrator.main", "--use-supervisor", "--title", title, **surroundings
    )
    assert "run.completed" in said
    (run,) = (await api.get("/runs", title_contains=title))["items"]
    assert run["status"] == "completed"


async def test_make_starts_a_task_as_it_used_to(api: Api, surroundings: dict[str, str]) -> None:
    """`make task-plan-start` of the predecessor; without its setup, which is tested on its own."""
    recipe = (CHECKOUT / "Makefile").read_text()
    assert re.search(
        r"^task-plan-start:.*\n\t@\$\(VENV\)/fluidcrew run .*--use-supervisor --watch", recipe, re.MULTILINE
    )
    said = await said_by(COMMAND, "run", "As it used to be", "--use-supervisor", "--watch", **surroundings)
    assert "run.completed" in said


async def test_a_run_is_listed_shown_and_tailed_from_the_bus(api: Api, surroundings: dict[str, str]) -> None:
    plan = [{"id": "hello", "title": "Say hello"}, {"id": "bye", "title": "Say goodbye", "deps": ["hello"]}]
    run_id = await api.launch("Shown on the command line", plan)
    await api.ended(run_id)
    assert run_id[:8] in await said_by(COMMAND, "runs", **surroundings)
    shown = await said_by(COMMAND, "show", run_id[:8], **surroundings)
    assert "Say hello" in shown
    assert "Say goodbye" in shown
    result = await said_by(COMMAND, "show", run_id, "--result", **surroundings)
    assert "echo: " in result

    tail = await asyncio.create_subprocess_exec(
        *(COMMAND, "tail", "--run", run_id, "--since", "1h", "--json"),
        env={k: v for k, v in os.environ.items() if k in INHERITED} | surroundings,
        stdout=asyncio.subprocess.PIPE,
    )
    assert tail.stdout is not None
    facts: list[str] = []
    while not facts or facts[-1] != "run.completed":
        line = await asyncio.wait_for(tail.stdout.readline(), 60)
        subject = parse(json.loads(line)["subject"])
        facts.append(f"{subject.entity}.{subject.verb}")
    tail.terminate()
    await tail.wait()
    assert [fact for fact in facts if fact.startswith("node.")] == ["node.started", "node.completed"] * 2


async def test_the_bus_is_verified_as_the_keeper(world: World, surroundings: dict[str, str]) -> None:
    keeper = surroundings | {"NATS_URL": world.nats.url("keeper")}
    assert await said_by(COMMAND, "bus", "verify", **keeper)
    assert "EVENTS" in await said_by(COMMAND, "bus", "info", **keeper)
