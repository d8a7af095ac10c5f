"""Artifacts: what nodes and people delivered; found, read, downloaded, added to, shown to others, removed."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from contracts.artifacts import (
    AddArtifact,
    Artifact,
    ArtifactGone,
    GetArtifact,
    ListArtifacts,
    RemoveArtifact,
    SetVisibility,
    Visibility,
)
from contracts.errors import Code, Rejection
from contracts.executor import GetNode
from contracts.page import Page
from contracts.plan import ArtifactKind
from contracts.planner import GetTask, ListTasks
from contracts.previews import LARGEST_ARCHIVE
from services.gateway.artifact_schemas import (
    ArtifactOut,
    ArtifactPage,
    ArtifactPatch,
    FileIn,
    LinkIn,
    artifact_out,
)
from services.gateway.bodies import is_file
from services.gateway.delivered import with_contents
from services.gateway.deps import CommandIdDep, CreatedDep, DeskDep, Filter, OrderedByDep, PartsDep, ProjectDep
from services.gateway.domain.places import place
from services.gateway.downloads import download, rendered
from services.gateway.known import refuse_unknown_company, refuse_unknown_run, refuse_unknown_task
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.uploads import BYTES, Upload, described_upload, form_fields, json_body

#: offered under a project too
collection = APIRouter(tags=["artifacts"])
of_tasks = APIRouter(prefix="/tasks/{task_id}", tags=["artifacts"])
router = APIRouter(tags=["artifacts"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
Wanted = dict[str, Any]
UPLOAD = described_upload(FileIn, LinkIn, "application/octet-stream")
AS_PAGE = {"content": {"text/html": {"schema": {"type": "string"}}}}
AS_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": BYTES}, "description": "The bytes, of the type they were delivered as"},
    206: {"content": {"*/*": BYTES}, "description": "The part that `Range` asked for"},
    304: {"description": "What `If-None-Match` names is the same"},
    416: {"description": "`Range` begins behind the end"},
}


def _wanted(
    created: CreatedDep,
    kind: ArtifactKind | None = None,
    type: Annotated[ArtifactKind | None, Query(description="the same as `kind`")] = None,
    content_type: Filter = None,
    name_contains: Filter = None,
    visibility: Visibility | None = None,
    latest: Annotated[bool, Query(description="without versions that newer ones have followed")] = False,
) -> Wanted:
    return {
        "kind": kind or type,
        "content_type": content_type,
        "name_contains": name_contains,
        "visibility": visibility,
        "made_from": created[0],
        "made_to": created[1],
        "latest": latest,
    }


WantedDep = Annotated[Wanted, Depends(_wanted)]


def _page(page: Paging, found: Page[Artifact]) -> ArtifactPage:
    return page.of(ArtifactPage, [artifact_out(each) for each in found.items], found.total)


@collection.get("/artifacts", responses=describe(404))
async def list_artifacts(desk: DeskDep, page: PageDep, wanted: WantedDep, project: ProjectDep) -> ArtifactPage:
    """Of the company, or of the project that the path names; the newest first."""
    found = await desk.ask(ListArtifacts(project=project, **wanted, **page.bounds))
    if not found.total and project is not None:
        await desk.ask(ListTasks(project=project, limit=1))
    elif not found.total:
        await refuse_unknown_company(desk)
    return _page(page, found)


@of_tasks.get("/artifacts", responses=describe(404))
async def list_task_artifacts(
    desk: DeskDep, parts: PartsDep, page: PageDep, wanted: WantedDep, task_id: UUID
) -> ArtifactPage:
    """What its runs delivered, and what people added."""
    found = await desk.ask(ListArtifacts(task_id=task_id, **wanted, **page.bounds))
    if not found.total:
        await refuse_unknown_task(desk, parts.feed, task_id)
    return _page(page, found)


@router.get("/runs/{run_id}/artifacts", responses=describe(404))
async def list_run_artifacts(
    desk: DeskDep, parts: PartsDep, page: PageDep, wanted: WantedDep, run_id: UUID
) -> ArtifactPage:
    found = await desk.ask(ListArtifacts(run_id=run_id, **wanted, **page.bounds))
    if not found.total:
        await refuse_unknown_run(desk, parts.feed, run_id)
    return _page(page, found)


@router.get("/nodes/{node_id}/artifacts", responses=describe(404))
async def list_node_artifacts(desk: DeskDep, page: PageDep, wanted: WantedDep, node_id: UUID) -> ArtifactPage:
    """`content` holds the text of those that are one of at most 64 KiB."""
    found = await desk.ask(ListArtifacts(node_id=node_id, **wanted, **page.bounds))
    if not found.total:
        await desk.ask(GetNode(node_id=node_id))
    return page.of(ArtifactPage, await with_contents(desk, found.items), found.total)


@of_tasks.post(
    "/artifacts",
    status_code=201,
    responses=describe(404, 408, 413, 415),
    openapi_extra=UPLOAD,
    response_model=ArtifactOut,
)
async def add_artifact(
    request: Request,
    desk: DeskDep,
    parts: PartsDep,
    by: OrderedByDep,
    task_id: UUID,
    command_id: CommandIdDep,
    response: Response,
    name: Annotated[str | None, Query(max_length=200, description="of a file that is the whole body")] = None,
) -> ArtifactOut:
    """A link as JSON, or a file of up to 50 MiB: in a form as the field `file`, or as the body with `?name=`.

    The same name again is the next version of it.
    """
    await desk.ask(GetTask(task_id=task_id))  # before anything is read
    order = {"command_id": command_id, "task_id": task_id, "by": by}
    if is_file(request.scope):
        async with parts.uploads.receive(request, limit=LARGEST_ARCHIVE) as upload:
            given = form_fields(FileIn, {"name": name} | dict(upload.fields))
            ref = await parts.uploads.store(upload, company=desk.company, content_type=upload.type or "")
            asked = AddArtifact(**order, name=_name(given, upload), ref=ref, visibility=given.visibility)
            added = await desk.ask(asked)
    else:
        link = await json_body(request, LinkIn)
        named = link.name or link.url[:200]
        added = await desk.ask(AddArtifact(**order, name=named, url=link.url, visibility=link.visibility))
    response.headers["Location"] = place(desk.company, f"/artifacts/{added.id}")
    return artifact_out(added)


def _name(given: FileIn, upload: Upload) -> str:
    if name := given.name or upload.name:
        return name
    raise Rejection(Code.INVALID, "name: the file has none; give `?name=`", errors=[{"loc": ["query", "name"]}])


@router.get(
    "/artifacts/{artifact_id}",
    responses={200: AS_PAGE, **describe(404, 409, 413, 415)},
    response_model=ArtifactOut,
)
async def get_artifact(
    desk: DeskDep,
    parts: PartsDep,
    artifact_id: UUID,
    render: Annotated[Literal["html"] | None, Query(description="a page to read, in which nothing acts")] = None,
) -> ArtifactOut | Response:
    """With its text, when it is one of at most 64 KiB."""
    found = await desk.ask(GetArtifact(artifact_id=artifact_id))
    if render is not None:
        return await rendered(parts.blobs, parts.renderer, found)
    return artifact_out(found, content=found.content)


@router.get("/artifacts/{artifact_id}/download", responses={**AS_BYTES, **describe(404, 409)}, response_class=Response)
async def download_artifact(request: Request, desk: DeskDep, parts: PartsDep, artifact_id: UUID) -> Response:
    """Its bytes under the name it was delivered by. `Range` asks for a part, `If-None-Match` for news only."""
    return await download(parts.blobs, await desk.ask(GetArtifact(artifact_id=artifact_id)), request)


@router.patch("/artifacts/{artifact_id}", responses=describe(404))
async def update_artifact(
    desk: DeskDep, artifact_id: UUID, body: ArtifactPatch, command_id: CommandIdDep
) -> ArtifactOut:
    """`public`: whoever knows its address may read it; `private`: nobody without a key, unless it is shared.

    Only previews have an address of their own; for others it changes nothing.
    """
    asked = SetVisibility(command_id=command_id, artifact_id=artifact_id, visibility=body.visibility)
    return artifact_out(await desk.ask(asked))


@router.delete("/artifacts/{artifact_id}", responses=describe(404, 409))
async def remove_artifact(desk: DeskDep, by: OrderedByDep, artifact_id: UUID, command_id: CommandIdDep) -> ArtifactGone:
    """409 while it is pinned, shared, or the file of a preview."""
    return await desk.ask(RemoveArtifact(command_id=command_id, artifact_id=artifact_id, by=by))
