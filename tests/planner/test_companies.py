"""Companies and projects: made once, listed, and all that tasks can do works in each of them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from contracts import planner
from contracts.errors import Code
from contracts.planner import ListTasks, Task, TaskStatus
from contracts.task_control import (
    AddDependencies,
    CreateCompany,
    CreateProject,
    ListCompanies,
    ListDependencies,
    ListProjects,
    Project,
    TaskAction,
)
from tests.planner.conftest import World
from tests.planner.test_tasks import refusal


async def project(world: World, company: str, id: str) -> Project:
    return await world.ask(CreateProject(command_id=uuid4(), company=company, id=id, name=id.title()))


async def test_a_company_comes_with_a_default_project(live: World) -> None:
    order = CreateCompany(command_id=uuid4(), id="acme", name="Acme & Sons")
    made = await live.ask(order)
    assert (made.id, made.name) == ("acme", "Acme & Sons")
    assert await live.ask(order) == made
    assert [company.id for company in (await live.ask(ListCompanies())).items] == ["default", "acme"]
    assert [each.id for each in (await live.ask(ListProjects(company="acme"))).items] == ["default"]


async def test_an_id_is_given_once(live: World) -> None:
    await live.company("acme")
    await project(live, "acme", "web")
    assert (await refusal(live.company("acme"))).failure.code is Code.ID_TAKEN
    assert (await refusal(project(live, "acme", "web"))).failure.code is Code.ID_TAKEN
    assert (await project(live, "default", "web")).company_id == "default"


async def test_what_is_not_there_is_named_with_what_to_do(live: World) -> None:
    for asked in (ListProjects(company="acme"), ListTasks(company="acme")):
        refused = (await refusal(live.ask(asked))).failure
        assert (refused.code, "POST /companies" in refused.message) == (Code.NOT_FOUND, True)
    assert "POST /companies" in str(await refusal(project(live, "acme", "web")))
    assert "POST /companies" in str(await refusal(live.task(company="acme")))
    assert "POST /companies/default/projects" in str(await refusal(live.task(project="web")))
    assert "'web'" in str(await refusal(live.ask(ListTasks(project="web"))))


async def test_companies_and_projects_are_ordered_and_paged(live: World) -> None:
    for id in ("zeta", "acme"):
        await live.company(id)
    page = await live.ask(ListCompanies(order_by="-id", limit=2))
    assert ([company.id for company in page.items], page.total) == (["zeta", "default"], 3)
    await project(live, "acme", "web")
    found = await live.ask(ListProjects(company="acme", order_by="-id", limit=1))
    assert ([each.id for each in found.items], found.total) == (["web"], 2)
    assert (await refusal(live.ask(ListProjects(order_by="secret")))).failure.code is Code.INVALID


async def test_titles_are_unique_in_a_project_and_lists_are_of_one(live: World) -> None:
    await live.company("acme")
    await project(live, "acme", "web")
    for where in ({}, {"company": "acme"}, {"company": "acme", "project": "web"}):
        await live.task("Same", **where)
        assert (await refusal(live.task("same", **where))).failure.code is Code.TITLE_TAKEN
    assert (await live.ask(ListTasks(company="acme"))).total == 2
    [task] = (await live.ask(ListTasks(company="acme", project="web"))).items
    assert (task.company_id, task.project_id) == ("acme", "web")


async def test_a_task_of_any_company_is_planned_started_steered_and_waited_for(live: World) -> None:
    await live.company("acme")
    await project(live, "acme", "web")
    where = {"company": "acme", "project": "web"}
    first, second = await live.planned("First", **where), await live.planned("Second", **where)
    links = await live.ask(
        AddDependencies(command_id=uuid4(), company="acme", task_id=second.id, depends_on=[first.id])
    )
    assert links.waiting
    run_id = await live.started(first)
    assert (live.executor.asked[0].company, live.executor.asked[0].project) == ("acme", "web")
    await live.control(first, TaskAction.PAUSE, company="acme")
    assert live.executor.controlled[0].company == "acme"
    await live.ends(first, run_id)
    await live.becomes(first, status=TaskStatus.COMPLETED)
    assert not (await live.ask(ListDependencies(company="acme", task_id=second.id))).waiting


async def test_a_task_keeps_what_it_was_created_with(live: World) -> None:
    fields = {"job_type": "report", "payload": {"pages": [1, 2]}, "assignee": "ada", "priority": 7}
    task = await live.task("Rich", **fields)
    assert {name: getattr(await live.now(task), name) for name in fields} == fields
    plain = await live.task("Plain")
    assert (plain.job_type, plain.payload, plain.assignee, plain.priority) == (None, {}, None, 0)
    assert not plain.auto_start


async def test_what_a_task_was_created_with_can_be_changed_and_cleared(live: World) -> None:
    fields = {"job_type": "report", "payload": {"pages": [1, 2]}, "assignee": "ada", "priority": 7}
    task = await live.task("Rich", **fields)

    async def change(**given: Any) -> Task:
        return await live.ask(planner.UpdateTask(command_id=uuid4(), task_id=task.id, **given))

    changed = await change(payload={}, priority=0, assignee="bob")
    assert (changed.job_type, changed.payload, changed.assignee, changed.priority) == ("report", {}, "bob", 0)
    cleared = await change(clears=["assignee", "job_type", "description"])
    assert (cleared.job_type, cleared.assignee, cleared.description) == (None, None, None)
    assert cleared.title == "Rich"


async def test_another_company_cannot_steer_or_see_a_task(live: World) -> None:
    await live.company("acme")
    task = await live.planned()
    for order in (
        live.control(task, TaskAction.CANCEL, company="acme"),
        live.ask(ListDependencies(company="acme", task_id=task.id)),
        live.ask(planner.StartTask(company="acme", command_id=uuid4(), task_id=task.id)),
    ):
        assert (await refusal(order)).failure.code is Code.NOT_FOUND
    assert not (await live.now(task)).control.cancel
