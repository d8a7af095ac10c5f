"""Tasks on the real servers: created once, found, changed, deleted, and never two under one title."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import UNPUBLISHED
from contracts import planner
from contracts.errors import Code, Rejection
from contracts.plan import Gate
from contracts.planner import TaskStatus
from tests.planner.conftest import World


async def refusal(call: object) -> Rejection:
    with pytest.raises(Rejection) as refused:
        await call  # type: ignore[misc]
    return refused.value


async def test_a_task_is_created_as_a_draft_and_found_again(live: World) -> None:
    task = await live.task("Rapport 80p", description="sur l'eau", gate=Gate.OBSERVE)
    assert (task.status, task.company_id, task.project_id, task.ad_hoc) == (
        TaskStatus.DRAFT,
        "default",
        "default",
        False,
    )
    assert await live.now(task) == task
    assert task.gate is Gate.OBSERVE


async def test_the_same_order_twice_makes_one_task_and_another_body_under_its_id_is_refused(live: World) -> None:
    order = planner.CreateTask(command_id=uuid4(), title="Once")
    assert await live.ask(order) == await live.ask(order)
    refused = await refusal(live.ask(order.model_copy(update={"title": "Twice"})))
    assert refused.failure.code is Code.IDEMPOTENCY_MISMATCH


async def test_a_title_is_taken_whatever_its_case_until_its_task_is_deleted(live: World) -> None:
    task = await live.task("Été à Paris")
    assert (await refusal(live.task("ÉTÉ À PARIS"))).failure.code is Code.TITLE_TAKEN
    other = await live.task("Hiver")
    rename = planner.UpdateTask(command_id=uuid4(), task_id=other.id, title="été à paris")
    assert (await refusal(live.ask(rename))).failure.code is Code.TITLE_TAKEN
    await live.ask(planner.DeleteTask(command_id=uuid4(), task_id=task.id))
    assert (await live.ask(rename.model_copy(update={"command_id": uuid4()}))).title == "été à paris"


async def test_of_twenty_that_create_the_same_title_at_once_one_succeeds(live: World) -> None:
    orders = [planner.CreateTask(command_id=uuid4(), title=t) for t in ("Race", "race") * 10]
    got = await asyncio.gather(*map(live.ask, orders), return_exceptions=True)
    assert sum(isinstance(answer, planner.TaskCreated) for answer in got) == 1
    refused = [answer.failure.code for answer in got if isinstance(answer, Rejection)]
    assert refused == [Code.TITLE_TAKEN] * 19


async def test_an_unknown_project_or_company_is_named(live: World) -> None:
    assert "'elsewhere'" in str(await refusal(live.task("T", project="elsewhere")))
    assert "'acme'" in str(await refusal(live.task("T", company="acme")))


async def test_a_change_touches_only_what_it_names(live: World) -> None:
    task = await live.task("Before", description="kept")

    async def change(**fields: object) -> planner.Task:
        return await live.ask(planner.UpdateTask(command_id=uuid4(), task_id=task.id, **fields))

    assert ((await change(title="After")).title, (await live.now(task)).description) == ("After", "kept")
    assert (await change(archived=True)).archived
    assert (await change(clear_description=True)).description is None
    assert (await change()).archived


async def test_deleting_is_quiet_about_what_is_not_there_and_refused_while_a_run_is_active(live: World) -> None:
    assert not (await live.ask(planner.DeleteTask(command_id=uuid4(), task_id=uuid4()))).existed
    task = await live.planned()
    run_id = await live.started(task)
    refused = (await refusal(live.ask(planner.DeleteTask(command_id=uuid4(), task_id=task.id)))).failure
    assert (refused.code, refused.details["state"], refused.details["run_id"]) == (
        Code.ILLEGAL_STATE,
        "running",
        str(run_id),
    )


async def test_a_deleted_task_is_gone_for_everybody(live: World) -> None:
    task = await live.planned()
    assert (await live.ask(planner.DeleteTask(command_id=uuid4(), task_id=task.id))).existed
    assert (await refusal(live.now(task))).failure.code is Code.NOT_FOUND
    assert (await refusal(live.started(task))).failure.code is Code.NOT_FOUND
    assert (await live.ask(planner.ListTasks(include_archived=True))).total == 0


async def test_lists_are_filtered_ordered_and_paged(live: World) -> None:
    for title in ("beta 100%", "Alpha", "gamma"):
        await live.task(title)
    archived = await live.task("delta")
    await live.ask(planner.UpdateTask(command_id=uuid4(), task_id=archived.id, archived=True))

    async def titles(**fields: object) -> list[str]:
        return [task.title for task in (await live.ask(planner.ListTasks(**fields))).items]

    assert await titles(order_by="title") == ["Alpha", "beta 100%", "gamma"]
    assert await titles(order_by="-title", include_archived=True) == ["gamma", "delta", "beta 100%", "Alpha"]
    assert await titles() == ["gamma", "Alpha", "beta 100%"], "the newest first"
    assert await titles(title_contains="0%") == ["beta 100%"]
    assert await titles(title_contains="a_pha") == [], "what means something to LIKE is taken literally"
    assert await titles(status="ready") == []
    page = await live.ask(planner.ListTasks(order_by="title", limit=1, offset=1))
    assert ([task.title for task in page.items], page.total) == (["beta 100%"], 3)
    assert (await live.ask(planner.ListTasks(offset=50))).total == 3


async def test_an_unknown_order_is_refused_with_the_allowed_ones(live: World) -> None:
    refused = (await refusal(live.ask(planner.ListTasks(order_by="-title; drop table tasks")))).failure
    assert refused.code is Code.INVALID
    assert refused.details["allowed"] == ["archived", "created_at", "id", "status", "title", "updated_at"]


async def test_another_company_sees_nothing_of_this_one(live: World) -> None:
    task = await live.task()
    assert "create it first" in str(await refusal(live.ask(planner.ListTasks(company="acme"))))
    await live.company("acme")
    assert (await live.ask(planner.ListTasks(company="acme"))).total == 0
    elsewhere = planner.GetTask(company="acme", task_id=task.id)
    assert (await refusal(live.ask(elsewhere))).failure.code is Code.NOT_FOUND


async def test_every_change_of_a_task_is_told(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        await world.ask(planner.UpdateTask(command_id=uuid4(), task_id=task.id, title="New"))
        await world.ask(planner.DeleteTask(command_id=uuid4(), task_id=task.id))
        told = "select split_part(subject, '.', 4) || '.' || split_part(subject, '.', 5) from outbox order by batch, id"
        got = [row[0] for row in await chassis.pool.fetch(told)]
        assert got == ["task.created", "plan.drafted", "task.ready", "task.updated", "task.deleted"]

        async def all_sent() -> bool:
            return await chassis.pool.fetchval(UNPUBLISHED) == 0

        await eventually(all_sent)
