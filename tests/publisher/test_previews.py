"""Previews: versions of a task's site, of what people send and of what agents write; pins, shared links, comparison."""

from __future__ import annotations

import io
import zipfile
from uuid import UUID, uuid4

import pytest

from chassis.testing.refusing import refused
from contracts.artifacts import AddArtifact, Artifact, RemoveArtifact, SetVisibility, Visibility
from contracts.errors import Code
from contracts.plan import ArtifactKind
from contracts.previews import (
    ComparePreviews,
    CreateShare,
    GetPreview,
    ListPreviews,
    ListShares,
    PinPreview,
    Preview,
    PreviewState,
    RevokeShare,
    SubmitPreview,
    UnpinPreview,
)
from services.publisher.handlers.shares import digest
from tests.publisher.conftest import Agent, World, a_case


def archive(**files: str) -> bytes:
    """Of pages: `index="<p>hi"` is index.html."""
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(f"{name}.html", text)
    return bytes_.getvalue()


async def published(world: World, task: UUID, **files: str) -> Preview:
    sent = await world.submit(task, archive(**files), name="site.zip")
    return await world.ended(sent.id)


async def listed(world: World, preview: Preview) -> Artifact:
    return next(a for a in await world.artifacts(task_id=preview.task_id) if a.preview_id == preview.id)


async def test_an_archive_that_was_sent_becomes_the_next_version_and_an_artifact(live: World) -> None:
    task = live.task("harbour")
    ref = await live.put(archive(index="<p>one", about="<p>who"))
    order = SubmitPreview(command_id=uuid4(), task_id=task, ref=ref, name="site.zip")
    sent = await live.ask(order)
    assert (sent.version, sent.made_by, sent.source, sent.url) == (1, "ann", "zip", None)
    made = await live.ended(sent.id)
    assert (made.entry, made.files, made.size, made.latest, made.approved) == ("index.html", 2, 12, True, False)
    assert made.url is not None
    assert made.latest_url is not None
    assert made.url.endswith(f"/default/harbour/{task}/")
    assert made.url.replace("--v1", "") == made.latest_url
    artifact = await listed(live, made)
    assert (artifact.kind, artifact.name, artifact.url) == (ArtifactKind.PREVIEW, "site.zip", made.url)
    assert (artifact.sha256, artifact.size) == (ref.sha256, ref.size)
    assert (await live.ask(order)).id == made.id
    assert len(await live.previews(task)) == 1


async def test_what_cannot_be_published_fails_with_the_reason_and_the_site_stays(live: World) -> None:
    task = live.task()
    good = await published(live, task, index="<p>one")
    bad = await live.ended((await live.submit(task, b"no archive")).id, PreviewState.FAILED)
    assert bad.error
    assert (bad.url, bad.latest_url, bad.latest) == (None, None, False)
    missing = await live.ended((await live.submit(task, archive(page="<p>x"))).id, PreviewState.FAILED)
    assert "index.html" in (missing.error or "")
    assert (await live.ask(GetPreview(task_id=task))).id == good.id
    assert [p.state for p in await live.previews(task)] == ["ready", "failed", "failed"]


async def test_the_files_of_an_agent_are_published_when_its_node_completes(live: World) -> None:
    case = a_case()
    agent = Agent(live, case)
    assert "so far there are no files" in await agent.publish("site/index.html")
    await agent.write("site/index.html", "<p>hi")
    await agent.write("site/app.js", "1")
    await agent.write("notes.md", "not of the site")
    assert "2 files will be published" in await agent.publish("site/index.html")
    assert case.task_id is not None
    assert await live.previews(case.task_id) == []

    await live.complete(case)
    made = await live.collected(case, 5)
    (sent,) = await live.previews(case.task_id)
    preview = await live.ended(sent.id)
    assert (preview.entry, preview.files, preview.source) == ("index.html", 2, "files")
    assert (preview.run_id, preview.node_id, preview.made_by) == (case.run_id, case.node_id, "writer")
    artifact = made["guide (site)"]
    assert (artifact.kind, artifact.preview_id) == (ArtifactKind.PREVIEW, preview.id)
    page = await live.ask(ListPreviews(run_id=case.run_id))
    assert [p.id for p in page.items] == [preview.id]
    async with refused(Code.ILLEGAL_STATE) as refusal:
        await live.ask(RemoveArtifact(command_id=uuid4(), artifact_id=made["app.js"].id))
    assert "a file of version 1" in str(refusal.value)


async def test_a_site_that_an_agent_forgot_to_write_fails_and_says_so(live: World) -> None:
    case = a_case(task_id=None)
    await Agent(live, case).publish()
    await live.complete(case)
    await live.collected(case, 2)
    (sent,) = await live.previews(case.run_id)  # without a task it is the run's own
    failed = await live.ended(sent.id, PreviewState.FAILED)
    assert "no files" in (failed.error or "")


async def test_one_version_is_pinned_at_a_time_and_only_one_that_is_ready(live: World) -> None:
    task = live.task()
    first, second = await published(live, task, index="<p>1"), await published(live, task, index="<p>2")
    async with refused(Code.NOT_FOUND) as refusal:
        await live.ask(GetPreview(task_id=task, which="approved"))
    assert "no approved preview" in str(refusal.value)
    assert (await live.ask(PinPreview(command_id=uuid4(), preview_id=first.id))).approved is True
    assert (await live.ask(GetPreview(task_id=task, which="approved"))).id == first.id
    assert (await live.ask(GetPreview(task_id=task, which="latest"))).id == second.id
    assert (await live.ask(GetPreview(task_id=task, which="1"))).id == first.id
    await live.ask(PinPreview(command_id=uuid4(), preview_id=second.id))
    assert [p.approved for p in await live.previews(task)] == [False, True]
    await live.ask(UnpinPreview(command_id=uuid4(), preview_id=first.id))  # it was not: nothing changes
    assert [p.approved for p in await live.previews(task)] == [False, True]
    assert (await live.ask(UnpinPreview(command_id=uuid4(), preview_id=second.id))).approved is False
    failed = await live.ended((await live.submit(task, b"")).id, PreviewState.FAILED)
    async with refused(Code.ILLEGAL_STATE):
        await live.ask(PinPreview(command_id=uuid4(), preview_id=failed.id))
    async with refused(Code.NOT_FOUND):
        await live.ask(PinPreview(company="another", command_id=uuid4(), preview_id=first.id))


async def test_two_versions_are_compared_file_by_file(live: World) -> None:
    task = live.task()
    await published(live, task, index="<p>1", about="<p>who", old="<p>x")
    await published(live, task, index="<p>one", about="<p>who", new="<p>y")
    found = await live.ask(ComparePreviews(task_id=task, from_version=1, to_version=2))
    assert (found.added, found.removed, found.same) == (["new.html"], ["old.html"], 1)
    assert [(c.path, c.before, c.after) for c in found.changed] == [("index.html", 4, 6)]
    async with refused(Code.NOT_FOUND):
        await live.ask(ComparePreviews(task_id=task, from_version=1, to_version=3))


async def test_an_archive_among_the_artifacts_can_be_published(live: World) -> None:
    task = live.task()
    ref = await live.put(archive(index="<p>1"))
    kept = await live.ask(AddArtifact(command_id=uuid4(), task_id=task, name="site.zip", ref=ref))
    sent = await live.ask(SubmitPreview(command_id=uuid4(), task_id=task, artifact_id=kept.id))
    assert (await live.ended(sent.id)).files == 1
    text = await live.ask(AddArtifact(command_id=uuid4(), task_id=task, name="a.md", ref=await live.put(b"x")))
    async with refused(Code.INVALID):
        await live.ask(SubmitPreview(command_id=uuid4(), task_id=task, artifact_id=text.id))


@pytest.mark.parametrize("of", ["preview", "artifact"])
async def test_a_link_is_shown_once_and_ends_when_it_is_revoked(live: World, of: str) -> None:
    task = live.task()
    preview = await published(live, task, index="<p>1")
    file = await live.ask(AddArtifact(command_id=uuid4(), task_id=task, name="a.md", ref=await live.put(b"x")))
    what = {"preview_id": preview.id} if of == "preview" else {"artifact_id": file.id}
    order = CreateShare(command_id=uuid4(), **what)
    made = await live.ask(order)
    assert made.url is not None
    assert "//share-" in made.url
    again = await live.ask(order)
    assert (again.id, again.url == made.url) == (made.id, False), "no secret is kept that could be told again"
    (shown,) = (await live.ask(ListShares(**what))).items
    assert (shown.id, shown.url, shown.revoked_at) == (made.id, None, None)
    revoked = await live.ask(RevokeShare(command_id=uuid4(), share_id=made.id))
    assert revoked.revoked_at is not None
    if of == "preview":
        assert (await live.ask(GetPreview(preview_id=preview.id))).shared is False


async def test_only_what_can_be_opened_is_shared(live: World) -> None:
    task = live.task()
    failed = await live.ended((await live.submit(task, b"")).id, PreviewState.FAILED)
    link = await live.ask(AddArtifact(command_id=uuid4(), task_id=task, name="x", url="https://example.org"))
    site = await listed(live, failed)
    for what, code in (
        ({"preview_id": failed.id}, Code.ILLEGAL_STATE),
        ({"artifact_id": link.id}, Code.INVALID),
        ({"artifact_id": site.id}, Code.INVALID),
        ({"preview_id": uuid4()}, Code.NOT_FOUND),
        ({"artifact_id": uuid4()}, Code.NOT_FOUND),
        ({}, Code.INVALID),
    ):
        async with refused(code):
            await live.ask(CreateShare(command_id=uuid4(), **what))


async def test_who_reads_the_table_of_shares_cannot_open_one(live: World) -> None:
    preview = await published(live, live.task(), index="<p>1")
    order = CreateShare(command_id=uuid4(), preview_id=preview.id)
    url = (await live.ask(order)).url
    assert url is not None
    secret = url.split("//share-")[1].split(".")[0]
    rows = await live.rows("select secrets::text as x from shares union all select answer::text from commands")
    assert secret not in "".join(row["x"] for row in rows)
    assert digest(secret) in rows[0]["x"]


async def test_a_private_preview_is_private_wherever_it_is_listed(live: World) -> None:
    preview = await published(live, live.task(), index="<p>1")
    artifact = await listed(live, preview)
    assert artifact.visibility is Visibility.PUBLIC
    changed = await live.ask(SetVisibility(command_id=uuid4(), artifact_id=artifact.id, visibility=Visibility.PRIVATE))
    assert changed.visibility is Visibility.PRIVATE
    ((shown,),) = await live.rows("select visibility from previews")
    assert shown == "private"


async def test_the_latest_version_may_be_removed_and_the_one_before_it_is_shown_again(live: World) -> None:
    task = live.task()
    first, second = await published(live, task, index="<p>1"), await published(live, task, index="<p>2")
    artifact = await listed(live, second)
    await live.ask(PinPreview(command_id=uuid4(), preview_id=second.id))
    async with refused(Code.ILLEGAL_STATE) as refusal:
        await live.ask(RemoveArtifact(command_id=uuid4(), artifact_id=artifact.id))
    assert "unpin" in str(refusal.value)
    await live.ask(UnpinPreview(command_id=uuid4(), preview_id=second.id))
    await live.ask(RemoveArtifact(command_id=uuid4(), artifact_id=artifact.id))
    assert (await live.ask(GetPreview(task_id=task))).id == first.id
    assert (await published(live, task, index="<p>3")).version == 3, "no number is given twice"


async def test_a_version_that_took_longer_than_the_next_one_does_not_bring_the_site_back(live: World) -> None:
    task = live.task()
    sent = [await live.submit(task, archive(index=f"<p>{number}")) for number in range(4)]
    for each in sent:
        await live.ended(each.id)
    assert (await live.ask(GetPreview(task_id=task))).version == 4
