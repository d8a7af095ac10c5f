"""Starting tasks and launching ad-hoc runs: once, with the plan frozen, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts import planner, run_facts
from contracts.errors import Code, Rejection, RetryLater
from contracts.plan import Gate
from contracts.planner import LaunchTask, RunAccepted, TaskStatus
from tests.planner.conftest import World
from tests.planner.scripted_executor import fact
from tests.planner.test_drafting import answers, step
from tests.planner.test_tasks import refusal

NODES = [{"id": "a", "title": "A"}, {"id": "b", "title": "B", "deps": ["a"]}]


def launch(**fields: Any) -> LaunchTask:
    return LaunchTask.model_validate({"command_id": uuid4(), "title": "Ad hoc", **fields})


async def test_starting_needs_a_plan_that_is_ready(live: World) -> None:
    task = await live.task()
    assert (await refusal(live.started(task))).failure.code is Code.PLAN_MISSING
    assert (await refusal(live.started(await live.task("Gone", company="default"), company="acme"))).failure.code is (
        Code.NOT_FOUND
    )


async def test_a_started_task_runs_under_ids_the_order_decides(live: World) -> None:
    task = await live.planned()
    order = planner.StartTask(command_id=uuid4(), task_id=task.id)
    accepted = await live.ask(order)
    assert accepted.run_id.version == 4
    assert await live.ask(order) == accepted
    [asked] = live.executor.asked
    assert (asked.run_id, asked.task_id, asked.plan_id, asked.plan_version) == (
        accepted.run_id,
        task.id,
        task.plan_id,
        1,
    )
    now = await live.now(task)
    assert (now.status, now.run_id) == (TaskStatus.RUNNING, accepted.run_id)


async def test_a_second_start_is_refused_with_the_active_run(live: World) -> None:
    task = await live.planned()
    first = await live.started(task)
    refused = (await refusal(live.started(task))).failure
    assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(first)})
    now = await live.now(task)
    assert (now.status, now.run_id) == (TaskStatus.RUNNING, first)


async def test_an_order_refused_once_may_start_later_and_is_then_the_latest_run(live: World) -> None:
    task = await live.planned()

    async def ends(run_id: UUID) -> None:
        await live.executor.tell(fact(run_facts.RunCompleted, task, run_id))
        live.executor.active.clear()

        async def over() -> bool:
            now = await live.now(task)
            return (now.run_id, now.status) == (run_id, TaskStatus.COMPLETED)

        await eventually(over)

    first = await live.started(task)
    order = planner.StartTask(command_id=uuid4(), task_id=task.id)
    assert (await refusal(live.ask(order))).failure.code is Code.RUN_ACTIVE
    await ends(first)
    await ends(await live.started(task))
    accepted = await live.ask(order)
    now = await live.now(task)
    assert (now.status, now.run_id) == (TaskStatus.RUNNING, accepted.run_id)


async def test_an_order_repeated_after_a_lost_answer_asks_for_the_same_run_with_the_plan_as_it_was(live: World) -> None:
    task = await live.planned(nodes=("a",))
    live.executor.loses_answers = True
    order = planner.StartTask(command_id=uuid4(), task_id=task.id)
    with pytest.raises(RetryLater):
        await live.ask(order)
    graph = [{"id": "other", "title": "Other"}]
    await live.ask(planner.CreatePlan.model_validate({"command_id": uuid4(), "task_id": task.id, "graph": graph}))
    live.executor.loses_answers = False
    accepted = await live.ask(order)
    first, second = live.executor.asked
    assert first == second
    assert (second.run_id, [n.key for n in second.nodes]) == (accepted.run_id, ["a"])
    assert (await live.now(task)).run_id == accepted.run_id


async def test_without_an_executor_the_caller_hears_so_and_nothing_is_lost(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        world.executor.refusal = Rejection(Code.UNAVAILABLE, "away")
        with pytest.raises(RetryLater):
            await world.started(task)
        assert (await world.now(task)).status is TaskStatus.READY
        world.executor.refusal = None
        assert await world.started(task)
        assert await chassis.pool.fetchval("select count(*) from task_runs") == 2


async def test_a_task_is_not_deleted_while_the_executor_is_being_asked(live: World) -> None:
    task = await live.planned()
    live.executor.loses_answers = True
    with pytest.raises(RetryLater):
        await live.started(task)
    refused = await refusal(live.ask(planner.DeleteTask(command_id=uuid4(), task_id=task.id)))
    assert refused.failure.code is Code.ILLEGAL_STATE


@pytest.mark.parametrize(
    ("fields", "nodes"),
    [
        ({"task": NODES}, 2),
        ({"task": {"plan": [*NODES, {"id": "c", "title": "C"}], "edges": [{"source": "b", "target": "c"}]}}, 3),
        ({"task_spec": {"plan": {"plan": NODES}}}, 2),
        ({"task_spec": {"type": "demo"}}, 7),
    ],
)
async def test_explicit_plans_start_at_once(live: World, fields: dict[str, Any], nodes: int) -> None:
    accepted = await live.ask(launch(**fields))
    [asked] = live.executor.asked
    assert (asked.run_id, len(asked.nodes), asked.title) == (accepted.run_id, nodes, "Ad hoc")
    task = await live.now(accepted.task_id)
    assert (task.ad_hoc, task.status, task.run_id) == (True, TaskStatus.RUNNING, accepted.run_id)


async def test_ad_hoc_runs_may_share_a_title(live: World) -> None:
    await live.task("Ad hoc")
    first, second = await live.ask(launch(task=NODES)), await live.ask(launch(task=NODES))
    assert first.task_id != second.task_id


async def test_the_words_of_a_launch_reach_the_run(live: World) -> None:
    options = {"dry_run": True, "timeout_s": 60, "node_timeout_s": 5, "max_attempts": 2, "gate": "gate"}
    options |= {"llm_backend": "ollama", "llm_model": "llama3.1:8b"}
    spec = {"plan": {"plan": NODES}, "gate": "observe", "params": {"language": "fr"}, "acceptance": "short"}
    accepted = await live.ask(launch(task_spec=spec, options=options))
    [asked] = live.executor.asked
    assert accepted.dry_run
    assert (asked.dry_run, asked.timeout_s, asked.node_timeout_s, asked.max_attempts) == (True, 60, 5, 2)
    assert asked.gate is Gate.OBSERVE
    assert asked.meta["request_id"] == "test"
    assert [(n.llm_backend, n.llm_model, n.params, n.acceptance) for n in asked.nodes] == [
        ("ollama", "llama3.1:8b", {"language": "fr"}, []),
        ("ollama", "llama3.1:8b", {"language": "fr"}, ["short"]),
    ]


async def test_without_a_word_about_the_gate_the_server_decides(live: World) -> None:
    await live.ask(launch(task=NODES))
    assert live.executor.asked[0].gate is None


async def test_an_unsound_explicit_plan_is_refused_and_leaves_nothing(live: World) -> None:
    refused = (await refusal(live.ask(launch(task=[{"id": "a", "title": "A", "deps": ["b"]}])))).failure
    assert (refused.code, len(refused.details["errors"])) == (Code.INVALID, 1)
    assert (await live.ask(planner.ListTasks())).total == 0


async def test_a_description_is_planned_by_the_supervisor_and_runs(live: World) -> None:
    accepted = await live.ask(launch(task_spec={"description": "Compare three tents"}))
    [asked] = live.executor.asked
    assert asked.run_id == accepted.run_id
    assert len(asked.nodes) >= 3
    assert (await live.now(accepted.task_id)).run_id == accepted.run_id


async def test_a_launch_without_a_usable_plan_fails_its_task_with_the_reasons(world: World, model: FakeOpenAI) -> None:
    model.script(answers(step("x", "x")), answers(step("x", "x")))
    async with world.start_planner():
        order = launch(task_spec={"description": "d"}, dedupe_key="r-1")
        refused = (await refusal(world.ask(order))).failure
        assert (refused.code, refused.details["errors"]) == (Code.PLAN_NOT_READY, ["node 'x' depends on itself"])
        [task] = (await world.ask(planner.ListTasks())).items
        assert task.status is TaskStatus.FAILED
        assert (await refusal(world.ask(order))).failure == refused
        model.script(answers(step("x")))
        again = launch(task_spec={"description": "d"}, dedupe_key="r-1")
        assert (await world.ask(again)).task_id != task.id, "the request id is free again"


async def test_a_launch_that_the_executor_refuses_fails_its_task(live: World) -> None:
    live.executor.refusal = Rejection(Code.INVALID, "no such gate")
    assert "no such gate" in str(await refusal(live.ask(launch(task=NODES))))
    [task] = (await live.ask(planner.ListTasks())).items
    assert task.status is TaskStatus.FAILED


async def test_a_slow_supervisor_is_not_waited_for_and_the_run_comes_under_the_promised_id(
    world: World, model: FakeOpenAI
) -> None:
    model.script(Behaviour(held=True, output={"plan": [step("a")]}))
    async with world.start_planner(launch_wait=0.1):
        accepted = await world.ask(launch(task_spec={"description": "d"}))
        assert world.executor.asked == []
        model.release()
        await eventually(lambda: [run.run_id for run in world.executor.asked] == [accepted.run_id])


async def test_a_planner_stopped_before_the_executor_was_asked_starts_the_run_after_its_restart(world: World) -> None:
    world.executor.refusal = Rejection(Code.UNAVAILABLE, "away")
    async with world.start_planner(launch_wait=0.1):
        accepted = await world.ask(launch(task_spec={"description": "d"}))
        await eventually(lambda: len(world.executor.asked) > 0)
    world.executor.refusal = None
    async with world.start_planner():

        async def runs() -> bool:
            task = await world.now(accepted.task_id)
            return (task.status, task.run_id) == (TaskStatus.RUNNING, accepted.run_id)

        await eventually(runs)
    assert len({json.dumps([n.key for n in run.nodes]) for run in world.executor.asked}) == 1, "drafted once"


async def test_the_same_request_id_returns_the_run_while_it_is_alive_and_a_new_one_after(live: World) -> None:
    first = await live.ask(launch(task=NODES, dedupe_key="r-1"))
    same = await live.ask(launch(task_spec={"type": "demo"}, dedupe_key="r-1"))
    assert (same.run_id, same.task_id) == (first.run_id, first.task_id)
    assert (await live.ask(launch(task=NODES, dedupe_key="r-2"))).run_id != first.run_id

    task = await live.now(first.task_id)
    await live.executor.tell(fact(run_facts.RunFailed, task, first.run_id))

    async def over() -> bool:
        return (await live.now(task)).status is TaskStatus.FAILED

    await eventually(over)
    assert (await live.ask(launch(task=NODES, dedupe_key="r-1"))).run_id != first.run_id


@pytest.mark.parametrize("spec", [{"type": "demo"}, {"description": "drafted"}])
async def test_ten_launches_under_one_request_id_at_once_make_one_run(live: World, spec: dict[str, Any]) -> None:
    live.executor.takes = 0.1
    got: list[RunAccepted] = await asyncio.gather(
        *(live.ask(launch(task_spec=spec, dedupe_key="storm")) for _ in range(10))
    )
    assert len({(a.run_id, a.task_id) for a in got}) == 1
    assert set(live.executor.answered.values()) == {got[0].run_id}
    assert (await live.ask(planner.ListTasks())).total == 1


async def test_auto_start_answers_with_the_run_the_task_became(live: World) -> None:
    order = planner.CreateTask(command_id=uuid4(), title="Auto", auto_start=True, gate=Gate.OBSERVE)
    created = await live.ask(order)
    assert created.run_id is not None
    assert (created.task.status, created.task.run_id) == (TaskStatus.RUNNING, created.run_id)
    assert [(run.run_id, run.gate) for run in live.executor.asked] == [(created.run_id, Gate.OBSERVE)]
    assert (await live.ask(order)).run_id == created.run_id


async def test_auto_start_without_a_usable_plan_answers_with_the_draft(world: World, model: FakeOpenAI) -> None:
    model.script(Behaviour(status=401))
    async with world.start_planner():
        created = await world.ask(planner.CreateTask(command_id=uuid4(), title="Auto", auto_start=True))
        assert (created.task.status, created.run_id) == (TaskStatus.DRAFT, None)


# task files


async def test_a_task_file_holds_a_plan_or_a_spec(live: World) -> None:
    (live.files / "plan.json").write_text(json.dumps(NODES))
    (live.files / "sub").mkdir()
    (live.files / "sub" / "spec.json").write_text(json.dumps({"type": "demo", "gate": "gate"}))
    await live.ask(launch(task_file="plan.json"))
    await live.ask(launch(task_file="sub/spec.json"))
    assert [(len(run.nodes), run.gate) for run in live.executor.asked] == [(2, None), (7, Gate.GATE)]


async def test_nothing_outside_the_directory_of_task_files_is_read(live: World) -> None:
    outside = live.files.parent / "secret.json"
    outside.write_text(json.dumps(NODES))
    (live.files / "link.json").symlink_to(outside)
    for name in ("../secret.json", str(outside), "link.json", "sub/../../secret.json"):
        refused = (await refusal(live.ask(launch(task_file=name)))).failure
        assert (refused.code, "leads out" in refused.message) == (Code.INVALID, True)
        assert str(live.files) not in refused.message


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, Code.NOT_FOUND, "there is no task file"),
        ("{", Code.INVALID, "is not JSON"),
        ("[" * 100_000, Code.INVALID, "is not JSON"),
        ('{"plan": [{"id": "a"}]}', Code.INVALID, "holds no plan"),
        ('{"descripton": "d"}', Code.INVALID, "task_spec"),
        ('{"description": "\\ud800"}', Code.INVALID, "task_spec"),
        (" " * (1024 * 1024 + 1), Code.TOO_LARGE, "larger than"),
    ],
)
async def test_a_task_file_that_cannot_be_used_is_refused_with_the_reason(
    live: World, content: str | None, code: Code, words: str
) -> None:
    if content is not None:
        (live.files / "task.json").write_text(content)
    refused = (await refusal(live.ask(launch(task_file="task.json")))).failure
    assert (refused.code, words in refused.message) == (code, True), refused.message


async def test_without_a_directory_task_files_are_refused_with_advice(world: World) -> None:
    async with world.start_planner(task_files_dir=None):
        assert "PLANNER_TASK_FILES_DIR" in str(await refusal(world.ask(launch(task_file="x.json"))))
