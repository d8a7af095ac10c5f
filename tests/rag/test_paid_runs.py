"""What agents' questions cost their runs: real executor, model server and provider of vectors, and killed processes."""

from __future__ import annotations

import json
import signal
from uuid import UUID, uuid4

import pytest

from chassis.postgres import connect
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.servers import Database, NatsServer
from contracts.budgets import ListBudgets
from contracts.executor import GetRun, Node, RunDetail, RunStatus, StartRun
from contracts.scope import Scope
from contracts.sidecar import check
from contracts.sidecar_requests import ListSidecars
from services.rag.domain.spending import most_tokens
from tests.executor.conftest import model
from tests.killable import killable
from tests.rag.library import TIDES, ended
from tests.rag.test_paid import LETTERS, NEAR, Paid, alone

__all__ = ["alone", "model"]

TOLD = Behaviour(text="High water is at nine [1].")
ASKS = Behaviour(uses=(("search_knowledge", {"query": NEAR}),))


@pytest.fixture
async def agents(alone: Paid, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Paid:
    """With a document that agents may find, whose vectors are there. The model's answers are free: what a run costs are
    its questions, at a dollar for each token. The test starts its executor."""
    prices = {"letters": {"input": 1_000_000, "output": 0}, "fake-1": {"input": 0, "output": 0}}
    monkeypatch.setenv("LLM_PRICES", json.dumps(prices))
    async with alone.start_executor():
        space = await alone.space(embedder=LETTERS)
        await alone.embedded(await ended(alone, await alone.add(space, "Tides", TIDES)))
    alone.server.asked.clear()
    return alone


async def start(paid: Paid, task: UUID | None = None) -> UUID:
    """With a budget of its task, if it has one."""
    if task is not None:
        await paid.limit(1_000, Scope.TASK, str(task))
    node = {"key": "a", "title": "Ask", "agent_id": "ada", "instructions": "When is high water?"}
    order = {"command_id": uuid4(), "run_id": uuid4(), "title": "A guide", "project": "harbour", "task_id": task}
    return (await paid.ask(StartRun.model_validate(order | {"nodes": [node], "gate": "off"}))).run_id


async def completed(paid: Paid, run: UUID) -> tuple[RunDetail, Node]:
    async def done() -> RunDetail | None:
        found = await paid.ask(GetRun(run_id=run))
        return found if found.run.status is RunStatus.COMPLETED else None

    detail = await eventually(done, what="the run's end")
    assert detail.nodes
    return detail, detail.nodes[0]


async def costs(paid: Paid, run: UUID, usd: int) -> None:
    """The run, its node and the budget of its task: the same, and no more than that once nothing is under way."""

    async def agree() -> bool:
        found = await paid.ask(GetRun(run_id=run))
        (task,) = (await paid.ask(ListBudgets(scope=Scope.TASK))).items
        said = (found.summary.cost_usd, (found.nodes or [])[0].usage.cost_usd, task.spent_usd, task.reserved_usd)
        return said == (str(usd), str(usd), str(usd), "0")

    await eventually(agree, what=f"${usd} in the run, its node and its task's budget")


async def end_reservations(database: Database) -> None:
    """As if those who hold them had been silent for too long."""
    connection = await connect(database.url_for("executor"), "executor")
    try:
        await connection.execute("update reservations set expires_at = clock_timestamp()")
    finally:
        await connection.close()


async def test_an_agent_s_question_is_in_the_costs_of_its_node_and_run_and_has_a_sidecar(
    agents: Paid, model: FakeOpenAI
) -> None:
    model.script(ASKS, TOLD)
    async with agents.start_executor():
        detail, node = await completed(agents, run := await start(agents))
        documents = [each.document for each in (await agents.ask(ListSidecars(run_id=run))).items]
    assert (detail.summary.cost_usd, node.usage.cost_usd, node.usage.estimated_calls) == ("7", "7", 0)
    assert (node.usage.requests, detail.summary.llm_request_count) == (3, 3)
    assert node.usage.prompt_tokens == sum(each["usage"]["prompt_tokens"] for each in documents)
    (question,) = [each for each in documents if each["metadata"].get("role") == "embedder"]
    assert check(question, strict=True).errors == []
    assert (question["metadata"]["provider"], question["model_used"]) == ("openai", "letters")
    assert (question["usage"]["prompt_tokens"], question["cost"]) == (7, {"estimated": 7.0, "known": True})
    assert (question["prompts"]["user"], question["retry"]["index"]) == (NEAR, 0)
    assert (question["metadata"]["node"], question["metadata"]["attempt"]) == ("a", 1)


async def test_a_question_that_no_budget_of_its_run_bears_is_answered_by_words_and_the_agent_is_told_why(
    agents: Paid, model: FakeOpenAI
) -> None:
    model.script(ASKS, TOLD)
    async with agents.start_executor():
        await agents.limit(5, Scope.AGENT, "ada")
        detail, _ = await completed(agents, await start(agents))
    assert detail.summary.cost_usd == "0"
    assert agents.server.asked == []
    told = model.calls[-1].body["messages"][-1]["content"]
    assert "Searched by words only: the budget of agent ada does not allow it" in told


async def test_a_vector_that_comes_after_its_run_has_ended_is_in_the_run_s_costs_all_the_same(
    agents: Paid, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.script(ASKS, TOLD)
    monkeypatch.setattr("services.rag.adapters.vectors.PATIENCE", 2.0)
    agents.server.answers.clear()
    async with agents.start_executor():
        task = uuid4()
        detail, _ = await completed(agents, run := await start(agents, task))
        assert detail.summary.cost_usd == "0"
        agents.server.answers.set()
        await costs(agents, run, 7)


async def test_a_question_whose_rag_is_killed_counts_in_full_and_the_one_that_follows_as_well(
    agents: Paid, model: FakeOpenAI, database: Database, nats_server: NatsServer, object_store: dict[str, str]
) -> None:
    """Two requests left: of the first nobody can tell what it came to."""
    model.script(ASKS, TOLD)
    await agents.stop_rag()
    urls = {"NATS_URL": nats_server.url("rag"), "DATABASE_URL": database.url_for("rag")}
    environ = object_store | urls | {"ENV": "test", "OPENAI_BASE_URL": agents.server.url, "RAG_LEASE": "1"}
    task = uuid4()
    async with agents.start_executor():
        agents.server.answers.clear()
        async with killable("rag", environ) as rag:
            run = await start(agents, task)
            await eventually(lambda: len(agents.server.asked) == 1, what="a question under way")
            rag.send_signal(signal.SIGKILL)
            await rag.wait()
        agents.server.answers.set()
        async with agents.start_rag(openai_base_url=agents.server.url):
            await completed(agents, run)
            await end_reservations(database)
            await costs(agents, run, 7 + most_tokens([NEAR]))
            _, node = await completed(agents, run)
    assert (len(agents.server.asked), node.usage.estimated_calls) == (2, 1)


async def test_a_question_whose_executor_is_killed_is_bought_and_counted_once(
    agents: Paid, model: FakeOpenAI, database: Database, nats_server: NatsServer
) -> None:
    """Whoever goes on with the run asks again: its answer is known."""
    model.script(ASKS, ASKS, TOLD)
    urls = {"NATS_URL": nats_server.url("executor"), "DATABASE_URL": database.url_for("executor")}
    lease = {"EXECUTOR_LEASE_S": "2", "EXECUTOR_POLL_S": "0.1"}
    task = uuid4()
    agents.server.answers.clear()
    async with killable("executor", urls | lease) as executor:
        await eventually(lambda: agents.ask(ListBudgets()), what="an executor")
        run = await start(agents, task)
        await eventually(lambda: len(agents.server.asked) == 1, what="a question under way")
        executor.send_signal(signal.SIGKILL)
        await executor.wait()
    agents.server.answers.set()
    async with agents.start_executor():
        await costs(agents, run, 7)
        await completed(agents, run)
        await costs(agents, run, 7)
    assert len(agents.server.asked) == 1
