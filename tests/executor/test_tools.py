"""Nodes whose models use tools: a real owner over NATS runs them, the fake model server asks for them."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import Field

from chassis.bus import Bus
from chassis.context import Context
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code, Rejection
from contracts.executor import Node, RunStatus
from contracts.plan import Strict
from contracts.sidecar import check
from contracts.tool import ToolResult, UseTool
from services.executor.engine.toolbox import Toolbox
from tests.executor.conftest import World, agent


class NoteArguments(Strict):
    text: str = Field(min_length=1)
    copies: int = 1


class Note(UseTool, owner="planner", tool="note", description="Write a note down.", patience=0.4):
    arguments: NoteArguments


class Notebook:
    """The owner of the tool. `hold` makes it slow, `refuse` makes it say no."""

    def __init__(self) -> None:
        self.notes: list[Note] = []  # written
        self.asked: list[UUID] = []  # command ids
        self.answer = "noted"
        self.refuse = ""
        self.hold: asyncio.Event | None = None

    async def build(self, chassis: Chassis) -> None:
        async def note(request: Note, context: Context) -> ToolResult:
            self.asked.append(request.command_id)
            if self.refuse:
                raise Rejection(Code.ILLEGAL_STATE, self.refuse)
            async with chassis.uow.order(request, context) as tx:
                answer = tx.answer(ToolResult(text=self.answer))
            self.notes.append(request)
            if self.hold is not None:
                await self.hold.wait()
            return answer

        chassis.bus.serve(Note, note)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def uses(*wanted: tuple[str, Any], **fields: Any) -> Behaviour:
    return Behaviour(uses=wanted, **fields)


def told(model: FakeOpenAI, call: int = -1) -> list[str]:
    """The results of the latest round, as a call repeats them to the model."""
    messages = model.calls[call].body["messages"]
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    return [m["content"] for m in messages[last + 1 :]]


async def the_node(world: World, run_id: UUID) -> Node:
    return (await world.nodes(run_id))["a"]


async def sidecars(world: World, run_id: UUID) -> list[dict[str, Any]]:
    rows = await world.rows("select attempt, call, document from sidecars where run_id = $1 order by id", run_id)
    return [{"at": (r["attempt"], r["call"]), **json.loads(r["document"])} for r in rows]


async def test_a_model_uses_a_tool_and_then_answers(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    model.script(uses(("note", {"text": "tides"}), text="Let me see."), Behaviour(text="the answer"))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        detail = await world.until(run_id)
        node = await the_node(world, run_id)

    assert (detail.run.status, node.output_preview, node.attempt) == (RunStatus.COMPLETED, "the answer", 1)
    (offered,) = model.calls[0].body["tools"]
    assert offered["function"]["name"] == "note"
    assert offered["function"]["description"] == "Write a note down."
    assert offered["function"]["parameters"]["properties"].keys() == {"text", "copies"}
    (note,) = notebook.notes
    assert note.arguments == NoteArguments(text="tides")
    assert (note.company, note.context.run_id, note.context.node_id) == ("default", run_id, node.id)
    assert (note.context.attempt, note.context.effect) == (1, 1)
    assert told(model) == ["noted"]


async def test_every_call_of_an_attempt_has_its_account(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    model.script(uses(("note", {"text": "x"})), uses(("note", {"text": "y"})), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        summary = (await world.until(run_id)).summary
        usage = (await the_node(world, run_id)).usage

    documents = await sidecars(world, run_id)
    assert [d.pop("at") for d in documents] == [(1, 1), (1, 2), (1, 3)]
    assert all(not check(d, strict=True).errors for d in documents)
    assert [d["metadata"]["call"] for d in documents] == [1, 2, 3]
    assert [d.get("tooling") for d in documents] == [[{"name": "note"}], [{"name": "note"}], None]
    assert [m["content"] for m in documents[2]["prompts"]["messages"]] == ["", "noted"]
    assert usage.requests == summary.llm_request_count == 3
    assert usage.prompt_tokens == sum(d["usage"]["prompt_tokens"] for d in documents)
    assert usage.completion_tokens == sum(d["usage"]["completion_tokens"] for d in documents)
    assert (usage.cost_usd, summary.cost_usd) == (None, None), "one unknown price makes the sum unknown"


async def test_known_prices_add_up(
    model: FakeOpenAI, world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PRICES", '{"fake-1": {"input": 1000000, "output": 0}}')
    model.script(uses(("note", {"text": "x"})), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        await world.until(run_id)
        usage = (await the_node(world, run_id)).usage
    assert usage.cost_usd == str(usage.prompt_tokens)


async def test_the_mistakes_of_a_model_are_told_to_it(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    wrong = (("nothing", {}), ("note", {"text": "", "color": "red"}), ("note", '{"text": '), ("note", "[1]"))
    model.script(uses(*wrong), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a", max_attempts=1))
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
    unknown, misfit, broken, no_object = told(model)
    assert unknown == "error: there is no tool 'nothing'; there are note"
    assert "text:" in misfit
    assert "color:" in misfit
    assert "no JSON object" in broken
    assert "no JSON object" in no_object
    assert notebook.asked == []


async def test_uses_are_done_in_order_and_numbered_through_the_attempt(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    note = [("note", {"text": str(n)}) for n in range(19)]
    model.script(uses(*note[:2]), uses(*note[2:]), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        await world.until(await world.start(agent("a")))
    written = [(n.arguments.text, n.context.effect) for n in notebook.notes]
    assert written == [(str(n), n + 1) for n in range(18)]
    assert len(set(notebook.asked)) == 18
    assert told(model)[-1].startswith("error: not done: an answer may ask for 16 uses")


async def test_a_refusal_is_told_to_the_model(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    notebook.refuse = "the book is full"
    model.script(uses(("note", {"text": "x"})), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        assert (await world.until(await world.start(agent("a")))).run.status is RunStatus.COMPLETED
    assert told(model) == ["error: the book is full"]


async def test_a_long_result_is_cut_and_says_so(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    notebook.answer = "x" * 20_000
    model.script(uses(("note", {"text": "x"})), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        await world.until(await world.start(agent("a")))
    assert told(model) == ["x" * 16_000 + "\n[cut: the first 16,000 of 20,000 characters]"]


async def test_a_node_waits_for_a_tool_whose_owner_is_away(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    model.script(uses(("note", {"text": "x"})), Behaviour(text="done"))
    async with world.executor([Note]):
        run_id = await world.start(agent("a", max_attempts=1))
        await model.until(lambda: len(model.calls) == 1 and model.calls[0].outcome == "done")
        async with world.owner(notebook.build):
            assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
    assert len(notebook.notes) == 1
    assert len(model.calls) == 2, "no call was repeated"


async def test_a_node_that_waited_in_vain_fails_with_the_reason_and_is_tried_again(
    model: FakeOpenAI, world: World
) -> None:
    model.script(*[uses(("note", {"text": "x"}))] * 2)
    async with world.executor([Note]):
        run_id = await world.start(agent("a", timeout_s=2, max_attempts=2))
        await world.until(run_id, RunStatus.FAILED)
        node = await the_node(world, run_id)
    assert node.error == "the tool note gave no result in the node's time: the service planner is not running"
    assert (node.attempt, node.usage.requests) == (2, 2)


async def test_an_effect_happens_once_although_its_first_answer_was_lost(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    notebook.hold = asyncio.Event()
    model.script(uses(("note", {"text": "x"})), Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        await eventually(lambda: len(notebook.asked) >= 2, what="the executor asked again")
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        notebook.hold.set()
    assert len(set(notebook.asked)) == 1
    assert len(notebook.notes) == 1
    assert told(model) == ["noted"]


async def test_another_attempt_has_effects_of_its_own(model: FakeOpenAI, world: World, notebook: Notebook) -> None:
    use = uses(("note", {"text": "x"}))
    model.script(use, Behaviour(status=500), use, Behaviour(text="done"))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        usage = (await the_node(world, run_id)).usage
    assert [(n.context.attempt, n.context.effect) for n in notebook.notes] == [(1, 1), (2, 1)]
    assert len(set(notebook.asked)) == 2
    assert [d["at"] for d in await sidecars(world, run_id)] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert usage.requests == 4


async def test_a_model_that_never_stops_using_tools_is_stopped(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    model.script(*[uses(("note", {"text": "x"}))] * 3)
    async with world.owner(notebook.build), world.executor([Note], tool_rounds=2):
        run_id = await world.start(agent("a"))
        await world.until(run_id, RunStatus.FAILED)
        node = await the_node(world, run_id)
    assert "openai/fake-1 still asks for tools after 2 rounds" in (node.error or "")
    assert "EXECUTOR_TOOL_ROUNDS" in (node.error or "")
    assert (node.attempt, node.usage.requests, len(notebook.notes)) == (1, 3, 2)
    assert [call.body.get("tool_choice") for call in model.calls] == ["auto", "auto", "none"]
    assert told(model) == ["noted\n[this was the last use of tools: give your answer now]"]


async def test_canceling_in_the_middle_of_the_rounds_keeps_the_account(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    model.script(uses(("note", {"text": "x"})), Behaviour(text="one two three", stall_after=2))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        await model.until(lambda: len(model.calls) == 2)
        await world.order(run_id, "cancel")
        await model.until(lambda: model.calls[1].outcome == "disconnected")
        documents = await eventually(lambda: sidecars(world, run_id), what="the account")
        usage = (await the_node(world, run_id)).usage
    assert [d["at"] for d in documents] == [(1, 1), (1, 2)]
    assert documents[1]["errors"][0]["code"] == "canceled"
    assert (usage.requests, usage.cost_usd) == (2, None)
    assert usage.prompt_tokens == sum(d["usage"]["prompt_tokens"] for d in documents)


async def test_canceling_while_a_tool_is_at_work_keeps_the_account(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    notebook.hold = asyncio.Event()
    model.script(uses(("note", {"text": "x"})))
    async with world.owner(notebook.build), world.executor([Note]):
        run_id = await world.start(agent("a"))
        await eventually(lambda: notebook.asked, what="the tool at work")
        await world.order(run_id, "cancel")
        documents = await eventually(lambda: sidecars(world, run_id), what="the account")
        notebook.hold.set()
        usage = (await the_node(world, run_id)).usage
    assert [d["at"] for d in documents] == [(1, 1)]
    assert (usage.requests, len(model.calls)) == (1, 1)


def test_two_tools_of_one_name_are_refused_at_the_start() -> None:
    class Other(UseTool, owner="executor", tool="note", description="Another."):
        arguments: NoteArguments

    with pytest.raises(ValueError, match="two tools have one name"):
        Toolbox(Bus("executor", "nats://127.0.0.1:1", None), [Note, Other])  # type: ignore[arg-type]


async def test_a_model_that_takes_no_tools_works_without_them_and_is_not_asked_again(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    model.script(Behaviour(status=400, message="gemma:2b does not support tools"), Behaviour(text="the answer"))
    async with world.owner(notebook.build), world.executor([Note]):
        detail = await world.until(await world.start(agent("a"), agent("b", "a")))
    assert detail.run.status is RunStatus.COMPLETED
    assert [bool(call.body.get("tools")) for call in model.calls] == [True, False, False]


async def test_a_request_that_is_refused_for_something_else_is_not_repeated_without_tools(
    model: FakeOpenAI, world: World, notebook: Notebook
) -> None:
    model.script(Behaviour(status=400, message="the prompt offends"))
    async with world.owner(notebook.build), world.executor([Note]):
        detail = await world.until(await world.start(agent("a")))
    assert detail.run.status is RunStatus.FAILED
    assert [bool(call.body.get("tools")) for call in model.calls] == [True]
