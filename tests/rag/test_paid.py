"""Vectors of a paid provider, with the real executor's purse: reserved, settled, noted, and done without when refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.keeper import Keeper
from chassis.llm.call import Usage
from chassis.llm.prices import cost_of
from chassis.llm.settings import OPENAI_URL
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.plugin import SettingsOf
from contracts.budgets import Budget, ListBudgets, SetBudget
from contracts.executor import GetRun, RunStatus, StartRun
from contracts.knowledge import (
    ChangeSpace,
    Document,
    Embedder,
    EmbeddingSpend,
    Findings,
    GetDocument,
    GetSpace,
    GetStats,
    Search,
    Searcher,
    Space,
)
from contracts.retrievals import Bought, GetRetrievals, SearchKnowledge, SearchKnowledgeArguments
from contracts.scope import Scope
from contracts.tool import ToolContext
from services.executor.app import build as build_executor
from services.executor.settings import ExecutorSettings
from services.rag.app import build as build_rag
from services.rag.domain.spending import most_tokens, tokens_said
from services.rag.settings import RagSettings
from tests.rag.conftest import Others, Words, World
from tests.rag.embeddings import Embeddings
from tests.rag.library import LONG, TIDES, ended

LETTERS = {"provider": "openai", "model": "letters", "dimension": 8}
NEAR, FAR = "When is high water?", "And when is it low?"

Start = Callable[[], AbstractAsyncContextManager[Chassis]]


class Paid(World):
    """A dollar for each token, and a server that says how many a request took: seven."""

    server: Embeddings
    start_executor: Start
    client: Chassis
    stop_rag: Callable[[], Awaitable[None]]

    @property
    def executor(self) -> Chassis:
        return self.client

    async def limit(self, usd: int, scope: Scope = Scope.COMPANY, id: str = "default") -> None:
        await self.ask(SetBudget(command_id=uuid4(), scope=scope, scope_id=id, limit_usd=Decimal(usd)))

    async def budgets(self) -> dict[Scope, Budget]:
        return {budget.scope: budget for budget in (await self.ask(ListBudgets())).items}

    async def books(self, scope: Scope = Scope.COMPANY) -> tuple[Decimal, Decimal]:
        """What is spent, when nothing is reserved any more, and the calls that left."""

        async def settled() -> Budget | None:
            found = (await self.budgets())[scope]
            return found if Decimal(found.reserved_usd) == 0 else None

        return Decimal((await eventually(settled, what=f"the settlements of {scope}")).spent_usd), Decimal(
            len(self.server.asked)
        )

    async def spend(self, calls: int) -> dict[str, EmbeddingSpend]:
        """By purpose, once so many calls are noted."""

        async def noted() -> list[EmbeddingSpend] | None:
            found = (await self.ask(GetStats())).embedding
            return found if sum(each.calls for each in found) >= calls else None

        return {each.purpose: each for each in await eventually(noted, what=f"{calls} calls on record")}

    async def waiting(self, document: Document) -> Document:
        async def waits() -> Document | None:
            found = await self.ask(GetDocument(document_id=document.id))
            return found if found.waits_for else None

        return await eventually(waits, what=f"{document.title} waiting")

    async def embedded(self, document: Document) -> Document:
        async def done() -> Document | None:
            found = await self.ask(GetDocument(document_id=document.id))
            return found if found.searchable and not found.waits_for else None

        found = await eventually(done, what=f"vectors of {document.title}", timeout=60)
        rows = await self.rows("select 1 from vectors where document_id = $1", document.id)
        assert len(rows) == found.chunks
        return found


@pytest.fixture
async def alone(
    nats_server: Any,
    database: Any,
    keeper: Keeper,
    object_store: dict[str, str],
    settings_of: SettingsOf,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> AsyncIterator[Paid]:
    """Without an executor: the test starts it, or takes `paid`."""
    monkeypatch.setenv("LLM_PRICES", json.dumps({"letters": {"input": 1_000_000, "output": 0}}))
    monkeypatch.setattr("services.rag.handlers.reembedding.PAUSE", 0.1)
    monkeypatch.setattr("services.rag.adapters.vectors.PATIENCE", 60.0)

    def start_executor() -> AbstractAsyncContextManager[Chassis]:
        fields = {"lease_s": 30, "poll_s": 0.1, "drain_s": 0.2}
        return running("executor", settings_of(ExecutorSettings, "executor", **fields), build_executor)

    def start_rag(**fields: Any) -> AbstractAsyncContextManager[Chassis]:
        given = {"lease": 30.0, "unused_after": 0.0, "home": tmp_path, "threads": 1} | fields
        return running("rag", settings_of(RagSettings, "rag", **given), build_rag)

    async def nothing(_: Chassis) -> None: ...

    async with (
        Embeddings() as server,
        running("gateway", settings_of(ServiceSettings, "gateway"), nothing) as client,
        AsyncExitStack() as stack,
    ):
        rag = await stack.enter_async_context(start_rag(openai_base_url=server.url))
        server.tokens = 7
        made = Paid(Others(), Words(), start_rag, database.url_for("rag"), object_store, rag)
        made.server, made.start_executor, made.client = server, start_executor, client
        made.stop_rag = stack.aclose
        yield made


@pytest.fixture
async def paid(alone: Paid) -> AsyncIterator[Paid]:
    async with alone.start_executor():
        yield alone


async def ask(paid: Paid, query: str = NEAR, **fields: Any) -> Findings:
    return await paid.ask(Search.model_validate({"query": query} | fields))


async def test_documents_and_questions_are_reserved_and_cost_what_the_provider_says(paid: Paid) -> None:
    await paid.limit(100_000)
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Harbour", LONG[:12_000])))
    assert (await ask(paid)).degraded is None
    assert (await ask(paid)).degraded is None, "a question that is known costs nothing"
    spent, calls = await paid.books()
    assert spent == 7 * calls
    spend = await paid.spend(len(paid.server.asked))
    documents, questions = spend["documents"], spend["questions"]
    assert (questions.provider, questions.model, questions.calls, questions.cost_usd) == ("openai", "letters", 1, "7")
    assert documents.calls == len(paid.server.asked) - 1
    assert (documents.tokens, documents.estimated_calls, documents.unpriced_calls) == (7 * documents.calls, 0, 0)
    texts = await paid.rows("select sum(texts) from embedding_calls where purpose = 'documents'")
    assert texts[0][0] > documents.calls, "a reservation for each batch, and not for each text"


async def test_what_a_budget_does_not_bear_is_found_by_words_and_says_why(paid: Paid) -> None:
    await paid.limit(5)
    space = await paid.space(embedder=LETTERS)
    document = await paid.waiting(await ended(paid, await paid.add(space, "Tides", TIDES)))
    assert "the budget of company default does not allow it" in (document.waits_for or "")
    found = await ask(paid, "high waters")
    assert ([item.document.title for item in found.items], found.receipt.path) == (["Tides"], "lexical")
    assert "the budget of company default does not allow it" in (found.degraded or "")
    assert paid.server.asked == []
    await paid.limit(100_000)
    await paid.embedded(document)
    assert (await ask(paid, "high waters")).degraded is None
    assert await paid.books() == (14, 2)


async def test_a_space_that_no_budget_bears_to_make_anew_is_searched_as_it_is(paid: Paid) -> None:
    await paid.limit(100_000)
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    await paid.limit(8)
    other = Embedder(provider="openai", model="letters", dimension=8).model_copy(update={"model": "letters-2"})
    await paid.ask(ChangeSpace(command_id=uuid4(), space_id=space.id, embedder=other))

    async def waits() -> Space | None:
        found = await paid.ask(GetSpace(space_id=space.id))
        return found if found.waits_for else None

    reason = (await eventually(waits, what="a space that waits")).waits_for or ""
    assert "letters-2" in reason
    assert "LLM_PRICES" in reason
    assert {one["model"] for one in paid.server.asked} == {"letters"}


async def test_a_price_that_nobody_knows_is_counted_as_unknown_and_refused_by_a_budget(paid: Paid) -> None:
    unknown = LETTERS | {"model": "letters-of-their-own"}
    space = await paid.space(embedder=unknown)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    spend = (await paid.spend(1))["documents"]
    assert (spend.calls, spend.cost_usd, spend.unpriced_calls, spend.tokens) == (1, None, 1, 7)
    await paid.limit(100_000)
    found = await ask(paid, "high waters")
    assert "LLM_PRICES" in (found.degraded or "")
    assert len(paid.server.asked) == 1


@pytest.mark.parametrize("said", [None, -1, True, "many", 10**400], ids=["nothing", "less", "true", "words", "huge"])
async def test_what_a_provider_does_not_say_is_charged_in_full_and_marked(paid: Paid, said: Any) -> None:
    await paid.limit(100_000)
    paid.server.tokens = said
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    (asked,) = paid.server.asked
    most = most_tokens(asked["input"])
    assert await paid.books() == (most, 1)
    spend = (await paid.spend(1))["documents"]
    assert (spend.estimated_calls, spend.cost_usd) == (1, str(most))
    assert spend.tokens == -(-sum(map(len, asked["input"])) // 4)


async def test_a_refused_call_costs_nothing_and_one_that_breaks_off_all_that_it_may(paid: Paid) -> None:
    await paid.limit(100_000)
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    paid.server.script(401, {"error": "no key"})
    assert "401" in ((await ask(paid)).degraded or "")
    assert await paid.books() == (7, 2)
    paid.server.breaks_off = True
    assert "does not answer" in ((await ask(paid, FAR)).degraded or "")
    assert await paid.books() == (7 + most_tokens([FAR]), 3)
    spend = (await paid.spend(2))["questions"]
    assert (spend.calls, spend.estimated_calls) == (1, 1)


async def test_a_question_that_takes_long_is_bought_once_however_often_it_is_asked(
    paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for more than a second asks again by himself."""
    monkeypatch.setattr("services.rag.adapters.vectors.PATIENCE", 1.5)
    await paid.limit(100_000)
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    paid.server.answers.clear()
    assert "takes longer" in ((await ask(paid)).degraded or "")
    paid.server.answers.set()
    await paid.spend(2)
    assert (await ask(paid)).degraded is None
    assert await paid.books() == (14, 2)


async def test_a_question_under_way_when_rag_stops_is_answered_by_words_and_charged(paid: Paid) -> None:
    await paid.limit(100_000)
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    paid.server.answers.clear()
    asking = asyncio.create_task(ask(paid, "high waters"))
    await eventually(lambda: len(paid.server.asked) == 2, what="a question under way")
    await paid.stop_rag()
    found = await asking
    assert ([item.document.title for item in found.items], found.receipt.path) == (["Tides"], "lexical")
    assert await paid.books() == (7 + most_tokens(["high waters"]), 2)
    (row,) = await paid.rows("select estimated, cost_usd from embedding_calls where purpose = 'questions'")
    assert (row["estimated"], row["cost_usd"]) == (True, most_tokens(["high waters"]))


async def test_without_an_executor_nothing_is_bought_until_one_is_back(alone: Paid) -> None:
    space = await alone.space(embedder=LETTERS)
    document = await alone.waiting(await alone.add(space, "Tides", TIDES))
    await ask(alone)
    assert alone.server.asked == []
    async with alone.start_executor():
        await alone.embedded(document)
        assert (await ask(alone)).degraded is None
        assert len(alone.server.asked) == 2


async def test_an_agent_s_question_is_borne_by_the_budgets_of_its_run(paid: Paid) -> None:
    space = await paid.space(embedder=LETTERS)
    await paid.embedded(await ended(paid, await paid.add(space, "Tides", TIDES)))
    task = uuid4()
    scopes = {Scope.PROJECT: "harbour", Scope.TASK: str(task), Scope.AGENT: "ada"}
    for scope, id in scopes.items():
        await paid.limit(1_000, scope, id)
    where = await an_attempt(paid, task)
    arguments = SearchKnowledgeArguments(query=NEAR)
    told = await paid.ask(SearchKnowledge(command_id=uuid4(), context=where, arguments=arguments))
    assert "[1] Tides" in told.text
    for scope in scopes:
        assert (await paid.books(scope))[0] == 7
    await paid.spend(2)
    (row,) = await paid.rows("select * from embedding_calls where purpose = 'questions'")
    assert (row["run_id"], row["node_id"], row["attempt"], row["effect"]) == (where.run_id, where.node_id, 1, 1)
    assert (row["project"], row["task_id"], row["agent_id"]) == ("harbour", task, "ada")
    await paid.ask(
        SearchKnowledge(command_id=uuid4(), context=where.model_copy(update={"effect": 2}), arguments=arguments)
    )
    shown = (await paid.ask(GetRetrievals(run_id=where.run_id))).items
    assert [each.bought for each in shown] == [Bought(tokens=7, cost_usd="7", estimated=False), None]


async def an_attempt(paid: Paid, task: UUID) -> ToolContext:
    run, nodes = uuid4(), [{"key": "a", "title": "Ask", "kind": "noop", "agent_id": "ada"}]
    order = {"command_id": uuid4(), "run_id": run, "title": "A guide", "project": "harbour", "task_id": task}
    await paid.ask(StartRun.model_validate(order | {"nodes": nodes, "gate": "off"}))

    async def done() -> UUID | None:
        found = await paid.ask(GetRun(run_id=run))
        return found.nodes[0].id if found.run.status is RunStatus.COMPLETED and found.nodes else None

    node = await eventually(done, what="the run's end")
    return ToolContext(run_id=run, node_id=node, attempt=1, effect=1)


async def test_documents_are_borne_by_whose_space_they_lie_in(paid: Paid) -> None:
    await paid.limit(1_000, Scope.PROJECT, "harbour")
    await paid.limit(1_000, Scope.AGENT, "ada")
    for name, about in {
        "Company": {},
        "Project": {"scope": "project", "scope_id": "harbour"},
        "Agent": {"scope": "agent", "scope_id": "ada"},
        "No slug": {"scope": "project", "scope_id": "The Harbour"},
    }.items():
        space = await paid.space(name, embedder=LETTERS, **about)
        await paid.embedded(await ended(paid, await paid.add(space, name, TIDES)))
    assert [(await paid.books(scope))[0] for scope in (Scope.PROJECT, Scope.AGENT)] == [7, 7]
    await ask(paid, searcher=Searcher(agent_id="ada", project="harbour"))
    assert [(await paid.books(scope))[0] for scope in (Scope.PROJECT, Scope.AGENT)] == [14, 14]


def test_embedding_models_have_published_prices_where_they_were_published() -> None:
    model, million = "text-embedding-3-small", Usage(1_000_000)
    assert cost_of("openai", OPENAI_URL, model, million, {}).amount == Decimal("0.02")
    assert cost_of("openai", "http://127.0.0.1:1/v1", model, million, {}).amount is None
    assert cost_of("ollama", "http://127.0.0.1:11434/v1", "nomic-embed-text", million, {}).amount is None


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"prompt_tokens": 3, "total_tokens": 4}, 3), ({"total_tokens": 4}, 4), ([], None), ({}, None)],
    ids=["both", "total", "list", "empty"],
)
def test_what_a_provider_says_of_tokens_is_believed_when_it_can_be_so(usage: Any, tokens: int | None) -> None:
    assert tokens_said(usage) == tokens
