"""What nodes and people deliver becomes artifacts: versions under a name, listed, read and removed."""

from __future__ import annotations

from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.refusing import refused
from contracts.artifacts import (
    AddArtifact,
    AddLink,
    CountArtifacts,
    GetArtifact,
    GetDelivered,
    ListArtifacts,
    RemoveArtifact,
    SetVisibility,
    Visibility,
    WriteFile,
)
from contracts.errors import Code
from contracts.plan import ArtifactKind
from contracts.previews import CreateShare, ListRemovals, RevokeShare
from contracts.refs import BlobRef
from contracts.tool import ToolContext
from tests.publisher.conftest import GUIDE, Agent, World, a_case, completed, reused


async def test_the_result_of_every_node_becomes_a_document(live: World) -> None:
    case = a_case()
    await live.complete(case)
    (made,) = (await live.collected(case)).values()
    assert (made.kind, made.name, made.content_type) == (ArtifactKind.DOCUMENT, "guide.md", "text/markdown")
    assert (made.run_id, made.task_id, made.node_key, made.version) == (case.run_id, case.task_id, "guide", 1)
    assert (made.made_by, made.visibility, made.summary) == ("writer", Visibility.PRIVATE, GUIDE)
    found = await live.ask(GetArtifact(artifact_id=made.id))
    assert found.content == GUIDE
    assert found.ref is not None
    assert await live.executor.blobs.get(found.ref) == GUIDE.encode()


@pytest.mark.parametrize(
    ("output", "params", "name", "content"),
    [
        ('{"a": 1}', {}, "guide.json", '{"a": 1}'),
        ("```json\n[1]\n```", {"output_format": "JSON"}, "guide.json", "[1]"),
        ('{"a": 1}', {"output_schema": {"type": "object"}}, "guide.json", '{"a": 1}'),
        ("<!DOCTYPE html><p>tides", {}, "guide.html", "<!DOCTYPE html><p>tides"),
        ("a,b\n1,2", {"output_format": "csv"}, "guide.csv", "a,b\n1,2"),
        ("{tides", {}, "guide.md", "{tides"),
        ("", {}, "guide.md", ""),
    ],
)
async def test_a_result_is_kept_as_what_it_is(
    live: World, output: str, params: dict[str, object], name: str, content: str
) -> None:
    case = a_case(output, params=params)
    await live.complete(case)
    made = (await live.collected(case))[name]
    assert (await live.ask(GetArtifact(artifact_id=made.id))).content == content


async def test_a_large_result_is_read_from_where_it_lies_and_does_not_travel_inline(live: World) -> None:
    text = "The moon pulls. " * 6000
    ref = await live.executor.blobs.put(text.encode(), company="default", content_type="text/plain")
    case = a_case(text[:1000], output_ref=ref)
    await live.complete(case)
    (made,) = (await live.collected(case)).values()
    assert made.size == len(text)
    found = await live.ask(GetArtifact(artifact_id=made.id))
    assert found.content is None
    assert found.ref is not None
    assert found.ref.key.startswith("default/artifacts/")


async def test_what_an_agent_writes_becomes_artifacts_with_its_completion_and_not_before(live: World) -> None:
    case = a_case()
    agent = Agent(live, case)
    assert "report.md" in await agent.write("report.md", "# First")
    await agent.write("report.md", "# Second")
    await agent.write("data/tides.csv", "a,b")
    await agent.write("moon.svg", "<svg/>")
    await agent.link("https://example.org/tides", "The tide tables")
    assert await live.artifacts(run_id=case.run_id) == []
    delivered = await live.ask(GetDelivered(node_id=case.node_id, attempt=1))
    assert delivered.files == {"report.md": 8, "data/tides.csv": 3, "moon.svg": 6}
    assert delivered.links == ["https://example.org/tides"]

    await live.complete(case)
    made = await live.collected(case, 5)
    kinds = {name: a.kind.value for name, a in made.items()}
    assert kinds == {
        "guide.md": "document",
        "report.md": "document",
        "tides.csv": "file",
        "moon.svg": "image",
        "The tide tables": "link",
    }
    assert (made["tides.csv"].path, made["The tide tables"].url) == ("data/tides.csv", "https://example.org/tides")
    assert (await live.ask(GetArtifact(artifact_id=made["report.md"].id))).content == "# Second"
    assert await live.ask(GetDelivered(node_id=case.node_id, attempt=1)) == delivered
    counts = await live.ask(CountArtifacts(run_id=case.run_id))
    assert (counts.total, counts.by_kind[ArtifactKind.DOCUMENT]) == (5, 2)


async def test_what_an_attempt_wrote_that_did_not_complete_is_not_taken_for_the_next_one(live: World) -> None:
    first = a_case()
    second = a_case(attempt=2, node_id=first.node_id, run_id=first.run_id, task_id=first.task_id)
    await Agent(live, first).write("old.md", "old")
    await Agent(live, second).write("new.md", "new")
    await live.complete(second)
    assert set(await live.collected(second, 2)) == {"guide.md", "new.md"}


async def test_the_same_use_of_a_tool_counts_once_and_an_earlier_one_changes_nothing(live: World) -> None:
    case = a_case()
    place = {"run_id": case.run_id, "node_id": case.node_id, "attempt": 1}

    async def write(command: object, effect: int, content: str) -> str:
        context = ToolContext(effect=effect, **place)
        return (
            await live.ask(
                WriteFile.model_validate(
                    {"command_id": command, "context": context, "arguments": {"path": "a.md", "content": content}}
                )
            )
        ).text

    late, early = uuid4(), uuid4()
    said = await write(late, 2, "late")
    await write(early, 1, "a slow one")
    assert await write(late, 2, "late") == said
    await live.complete(case)
    made = await live.collected(case, 2)
    assert (await live.ask(GetArtifact(artifact_id=made["a.md"].id))).content == "late"


async def test_a_file_that_cannot_lie_beside_the_others_is_refused_with_the_reason(live: World) -> None:
    agent = Agent(live, a_case())
    await agent.write("a.md", "a")
    for path in ("A.md", "a.md/b.md"):
        async with refused(Code.BAD_REQUEST) as refusal:
            await agent.write(path, "b")
        assert "differ in case only, or one is the folder of the other" in str(refusal.value)


async def test_an_attempt_may_write_so_much_and_no_more(live: World) -> None:
    agent = Agent(live, a_case())
    megabyte = "x" * 1_000_000
    for number in range(26):
        await agent.write(f"{number}.txt", megabyte)
    async with refused(Code.BAD_REQUEST) as refusal:
        await agent.write("one-more.txt", megabyte)
    assert "are left of" in str(refusal.value)
    assert "0.txt" in await agent.write("0.txt", megabyte)


async def test_another_attempt_at_a_node_adds_versions_and_the_latest_can_be_asked_for(live: World) -> None:
    task = uuid4()
    first = a_case("# One", task_id=task)
    again = a_case("# Two", task_id=task)  # another run of the task
    await live.complete(first)
    await live.collected(first)
    await live.complete(again)
    made = (await live.collected(again))["guide.md"]
    assert made.version == 2
    assert [a.version for a in await live.artifacts(task_id=task)] == [1, 2]
    assert [a.id for a in await live.artifacts(task_id=task, latest=True)] == [made.id]


async def test_a_fact_that_comes_again_and_a_node_that_completes_again_add_nothing(live: World) -> None:
    case = a_case()
    await live.complete(case)
    await live.collected(case)
    await live.tell(completed(case))
    other = a_case()
    await live.complete(other)
    await live.collected(other)
    assert len(await live.artifacts(node_id=case.node_id)) == 1


async def test_a_node_without_an_output_delivers_nothing_and_asks_nobody(live: World) -> None:
    quiet, other = a_case(), a_case()
    await live.tell(completed(quiet, checksum=None))
    await live.complete(other)
    await live.collected(other)
    assert {r.node_id for r in live.others.asked} == {other.node_id}  # type: ignore[attr-defined]


async def test_an_executor_that_is_away_is_waited_for(live: World) -> None:
    live.others.is_away = True
    case = a_case()
    await live.complete(case)
    await eventually(lambda: len(live.others.asked) >= 2, what="another try")
    live.others.is_away = False
    assert set(await live.collected(case)) == {"guide.md"}


async def test_of_a_run_that_is_gone_nothing_is_collected_and_nothing_waits(live: World) -> None:
    case, other = a_case(), a_case()
    await live.tell(completed(case))
    await live.complete(other)
    await live.collected(other)
    assert await live.artifacts(node_id=case.node_id) == []


async def test_a_result_that_was_taken_over_brings_its_deliverables_along(live: World) -> None:
    task = uuid4()
    earlier, later = a_case(task_id=task), a_case(task_id=task, attempt=0)
    await Agent(live, earlier).write("report.md", "# Report")
    await live.complete(earlier)
    before = await live.collected(earlier, 2)
    live.others.cases[(later.node_id, 1)] = later
    await live.tell(reused(later, earlier))
    after = await live.collected(later, 2)
    assert {n: (a.sha256, a.version) for n, a in after.items()} == {n: (a.sha256, 2) for n, a in before.items()}
    assert {a.run_id for a in after.values()} == {later.run_id}


async def test_people_add_files_and_links_to_a_task(live: World) -> None:
    task = live.task("harbour")
    ref = await live.put(b"%PDF-1.7")
    order = AddArtifact(command_id=uuid4(), task_id=task, name="charts.pdf", ref=ref)
    made = await live.ask(order)
    assert (made.kind, made.content_type, made.project_id) == (ArtifactKind.DOCUMENT, "application/pdf", "harbour")
    assert (made.made_by, made.node_id, made.version) == ("ann", None, 1)
    assert await live.ask(order) == made
    again = await live.ask(order.model_copy(update={"command_id": uuid4()}))
    assert again.version == 2
    link = await live.ask(
        AddArtifact(command_id=uuid4(), task_id=task, name="Tables", url="https://example.org/t", visibility="public")
    )
    assert (link.kind, link.url, link.visibility) == (ArtifactKind.LINK, "https://example.org/t", Visibility.PUBLIC)
    assert [a.name for a in await live.artifacts(task_id=task)] == ["charts.pdf", "charts.pdf", "Tables"]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://", "https://a b", "file:///etc/passwd", "http://[::1"])
async def test_a_link_that_leads_nowhere_good_is_refused(live: World, url: str) -> None:
    async with refused(Code.INVALID):
        await live.ask(AddArtifact(command_id=uuid4(), task_id=live.task(), name="x", url=url))


async def test_only_what_was_stored_as_a_deliverable_can_be_added(live: World) -> None:
    stolen = await live.executor.blobs.put(b"another's", company="default", content_type="text/plain")
    for ref in (stolen, BlobRef(key="other/artifacts/x", sha256=stolen.sha256, size=9)):
        async with refused(Code.INVALID):
            await live.ask(AddArtifact(command_id=uuid4(), task_id=live.task(), name="x", ref=ref))
    async with refused(Code.INVALID):
        await live.ask(AddArtifact(command_id=uuid4(), task_id=live.task(), name="x"))
    async with refused(Code.NOT_FOUND):
        await live.ask(AddArtifact(command_id=uuid4(), task_id=uuid4(), name="x", url="https://example.org"))


async def test_a_list_is_filtered_ordered_and_paged(live: World) -> None:
    task = live.task("harbour")
    for name in ("b.md", "a.png", "c.md"):
        ref = await live.put(name.encode())
        await live.ask(AddArtifact(command_id=uuid4(), task_id=task, name=name, ref=ref))

    async def names(**fields: object) -> list[str]:
        return [a.name for a in (await live.ask(ListArtifacts.model_validate(fields))).items]

    assert await names(project="harbour") == ["c.md", "a.png", "b.md"]
    assert await names(project="elsewhere") == []
    assert await names(order_by="name", kind="document") == ["b.md", "c.md"]
    assert await names(order_by="-type") == ["a.png", "b.md", "c.md"], "its kind, as answers call it as well"
    assert await names(content_type="image/png") == ["a.png"]
    assert await names(name_contains="A.P") == ["a.png"]
    assert await names(order_by="name", limit=1, offset=1) == ["b.md"]
    assert await names(visibility="public") == []
    assert await names(company="another") == []
    assert (await live.ask(ListArtifacts(limit=1))).total == 3
    async with refused(Code.INVALID):
        await names(order_by="password")


async def test_an_artifact_of_another_company_is_not_there(live: World) -> None:
    made = await live.ask(AddArtifact(command_id=uuid4(), task_id=live.task(), name="x", url="https://example.org"))
    for request in (
        GetArtifact(company="another", artifact_id=made.id),
        SetVisibility(company="another", command_id=uuid4(), artifact_id=made.id, visibility="public"),
        RemoveArtifact(company="another", command_id=uuid4(), artifact_id=made.id),
    ):
        async with refused(Code.NOT_FOUND):
            await live.ask(request)  # type: ignore[type-var]


async def test_an_artifact_is_removed_unless_it_is_shared_and_that_stays_on_record(live: World) -> None:
    task, ref = live.task(), await live.put(b"# Report")
    made = await live.ask(AddArtifact(command_id=uuid4(), task_id=task, name="r.md", ref=ref))
    share = await live.ask(CreateShare(command_id=uuid4(), artifact_id=made.id))
    remove = RemoveArtifact(command_id=uuid4(), artifact_id=made.id, by="bea")
    async with refused(Code.ILLEGAL_STATE) as refusal:
        await live.ask(remove)
    assert "revoke the link" in str(refusal.value)
    await live.ask(RevokeShare(command_id=uuid4(), share_id=share.id))
    assert (await live.ask(remove)).removed.id == made.id
    assert (await live.ask(remove)).removed.id == made.id
    async with refused(Code.NOT_FOUND):
        await live.ask(GetArtifact(artifact_id=made.id))
    (removal,) = (await live.ask(ListRemovals(task_id=task))).items
    assert (removal.what, removal.id, removal.size) == ("artifact", str(made.id), 8)


async def test_a_link_of_an_agent_may_not_hide_anything(live: World) -> None:
    case = a_case()
    context = ToolContext(run_id=case.run_id, node_id=case.node_id, attempt=1, effect=1)
    arguments = {"url": "https://example.org/\u202egpj.exe", "title": "x"}
    async with refused(Code.BAD_REQUEST):
        await live.ask(AddLink.model_validate({"command_id": uuid4(), "context": context, "arguments": arguments}))
