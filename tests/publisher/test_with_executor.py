"""Publisher, executor and feedback together, as they are: an agent writes a site, owes it, and it opens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Chassis, running
from chassis.settings import BadSettings, ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.servers import Database, NatsServer
from contracts.artifacts import AddLink, Artifact, ListArtifacts, PublishPreviewTool, WriteFile
from contracts.executor import GetRun, Node, NodeStatus, RunStatus, StartRun
from contracts.message import Request
from contracts.previews import ListPreviews, Preview, PreviewState
from services.executor.app import build as build_executor
from services.executor.app import offered
from services.executor.settings import ExecutorSettings
from services.feedback.app import build as build_feedback
from services.feedback.settings import FeedbackSettings
from services.publisher.app import build as build_publisher
from services.publisher.settings import PublisherSettings

A = TypeVar("A", bound=BaseModel)
TOOLS = (WriteFile, PublishPreviewTool, AddLink)
PAGE = "<!doctype html><title>Tides</title><h1>Tides</h1>"
DONE = "The site is done, as asked for."
SITE = (
    ("write_file", {"path": "site/index.html", "content": PAGE}),
    ("write_file", {"path": "site/../secrets.txt", "content": "no"}),
    ("publish_preview", {"entry": "site/index.html"}),
    ("add_link", {"url": "https://example.org/tides", "title": "The tables"}),
)


class Author(FakeOpenAI):
    """Its first attempt forgets what it owes, if it is told to."""

    forgets = 0

    def _behaviour(self, call: Call) -> Behaviour:
        if call.body["messages"][-1]["role"] != "user":
            return Behaviour(text=DONE)
        if self.forgets:
            self.forgets -= 1
            return Behaviour(text=DONE)
        return Behaviour(uses=SITE)


class All:
    def __init__(self, client: Chassis, model: Author) -> None:
        self.client = client
        self.model = model

    async def ask(self, request: Request[A]) -> A:
        return await self.client.bus.ask(request, Context(request_id="test"), patience=60)

    async def completed(self, gate: str, **node: Any) -> tuple[UUID, Node]:
        order = {"command_id": uuid4(), "run_id": uuid4(), "title": "A guide", "gate": gate, "task_id": uuid4()}
        nodes = [{"key": "site", "title": "Make a site on tides", **node}]
        run_id = (await self.ask(StartRun.model_validate({**order, "nodes": nodes}))).run_id

        async def is_so() -> Node | None:
            found = await self.ask(GetRun(run_id=run_id))
            return (found.nodes or [])[0] if found.run.status is RunStatus.COMPLETED else None

        return run_id, await eventually(is_so, what="the run's completion")

    async def preview(self, run_id: UUID) -> Preview:
        async def is_ready() -> Preview | None:
            found = (await self.ask(ListPreviews(run_id=run_id))).items
            return found[0] if found and found[0].state is PreviewState.READY else None

        return await eventually(is_ready, what="a preview of the run")

    async def artifacts(self, run_id: UUID) -> list[Artifact]:
        return (await self.ask(ListArtifacts(run_id=run_id, order_by="name"))).items


@pytest.fixture
async def everything(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[All]:
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(Author())
        given = {"LLM_DEFAULT_PROVIDER": "openai", "LLM_DEFAULT_MODEL": "fake-1", "OPENAI_API_KEY": "sk-test"}
        for name, value in {**object_store_settings, **given, "OPENAI_BASE_URL": model.base_url}.items():
            monkeypatch.setenv(name, value)

        async def start(service: str, kind: type[ServiceSettings], build: Any, **fields: Any) -> Chassis:
            urls = {"nats_url": nats_server.url(service), "database_url": database.url_for(service)}
            settings = kind(**urls, drain_timeout=3.0, env="test", **fields)
            return await stack.enter_async_context(running(service, settings, build))

        await start("executor", ExecutorSettings, build_executor)
        await start("feedback", FeedbackSettings, build_feedback, reviewer="none")
        await start("publisher", PublisherSettings, build_publisher, preview_port=0)
        yield All(await start("gateway", ServiceSettings, _nothing), model)


async def _nothing(_: Chassis) -> None: ...


async def test_a_site_that_an_agent_wrote_opens_when_its_node_has_completed(everything: All) -> None:
    run_id, node = await everything.completed("off")
    preview = await everything.preview(run_id)
    assert (preview.node_id, preview.entry, preview.files, preview.task_id) == (
        node.id,
        "index.html",
        1,
        preview.task_id,
    )
    host, _, path = (preview.url or "").removeprefix("http://").partition("/")
    port = host.rpartition(":")[2]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"Host": host}, timeout=60) as browser:
        assert (await browser.get(f"/{path}")).text == PAGE
    made = await everything.artifacts(run_id)
    assert [a.name for a in made] == ["index.html", "site (site)", "site.md", "The tables"]
    refusals = [m["content"] for m in everything.model.calls[-1].body["messages"] if m["role"] == "tool"]
    assert "path" in refusals[1], "the model is told which path it may not write"


async def test_an_attempt_that_owes_a_site_and_forgets_it_is_told_and_the_next_one_delivers(everything: All) -> None:
    everything.model.forgets = 1
    run_id, node = await everything.completed("gate", deliverables=["preview", "site/index.html"])
    assert (node.status, node.attempt) == (NodeStatus.COMPLETED, 2)
    last = everything.model.calls[-1].user
    assert "site/index.html was not delivered; write it with write_file" in last
    assert (await everything.preview(run_id)).node_id == node.id


@pytest.mark.parametrize(
    ("wanted", "names"),
    [("all", 3), ("none", 0), ("write_file, publish_preview", 2), ("ADD_LINK", 1)],
)
def test_which_tools_agents_are_offered_can_be_set(wanted: str, names: int) -> None:
    assert len(offered(wanted, TOOLS)) == names


def test_a_tool_that_does_not_exist_is_named() -> None:
    with pytest.raises(
        BadSettings, match="'fly' is no tool; give all, none, or of add_link, publish_preview, write_file"
    ):
        offered("write_file,fly", TOOLS)
