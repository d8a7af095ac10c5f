"""The watcher of a drill: what is told after the end of the run is heard as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.local.home import Home
from fluidcrew.client import Gateway
from fluidcrew.drill import clear
from fluidcrew.drill_watcher import Watcher
from fluidcrew.drill_witness import Witness
from fluidcrew.progress import RunView
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway, event


@pytest.mark.parametrize("end", [("RUN_COMPLETED", "TASK_COMPLETED"), ("TASK_COMPLETED", "RUN_COMPLETED")])
async def test_the_watcher_stays_for_what_is_told_after_the_end_of_the_run(
    gateway: FakeGateway, end: tuple[str, str]
) -> None:
    """An artifact of the last node is a fact of its own, which may come after the run's last; so is the task's end, which a
    gateway that comes back may hear of first."""
    levels = ("RUN_STARTED", *end, "ARTIFACT_CREATED")
    gateway.facts = [event(level, number) | {"task_id": "t1"} for number, level in enumerate(levels, start=1)]
    gateway.break_after = 3  # the artifact comes with the next connection
    gateway.on("GET /events", (200, {"items": gateway.facts}))
    async with Gateway(gateway.url, KEY) as api:
        watcher = Watcher(api, RunView(RUN_ID), Witness("", accepted={"t1": "an idea"}))
        following = asyncio.create_task(watcher.follow(None))
        async with asyncio.timeout(60):
            await watcher.over.wait()
        facts, tasks = await watcher.told()
        following.cancel()
    assert set(facts) == {fact.id for fact in watcher.witness.seen} == {"e1", "e2", "e3", "e4"}
    assert "t1" in tasks


def test_a_run_goes_on_with_a_move_of_its_own_and_not_with_an_artifact_of_what_was_done_before() -> None:
    witness = Witness("")
    for number, level in enumerate(("NODE_COMPLETED", "ARTIFACT_CREATED", "NODE_RETRIED"), start=1):
        witness.hear(event(level, number) | {"timestamp": f"2025-03-01T12:00:0{number}Z"}, arrived=float(number))
    first = witness.seen[0].at
    assert witness.recovered(first) == 3
    assert witness.recovered(witness.seen[-1].at) is None


def test_what_an_interrupted_drill_left_is_cleared_unless_one_is_at_it(tmp_path: Path) -> None:
    """Its tasks would fill the lists that are asked for, and its run would go on."""
    home = Home(tmp_path / "drill")
    home.prepare()
    (home.path / "stack.json").write_text("{}")
    with home.locked():
        clear(home.path)
        assert (home.path / "stack.json").exists()
    clear(home.path)
    assert not home.path.exists()
