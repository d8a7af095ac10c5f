"""Previews: a task's website in versions; published, pinned, compared."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from contracts.errors import Code, Rejection
from contracts.planner import GetTask
from contracts.previews import (
    LARGEST_ARCHIVE,
    ComparePreviews,
    GetPreview,
    ListPreviews,
    PinPreview,
    Preview,
    PreviewChanges,
    PreviewState,
    SubmitPreview,
    UnpinPreview,
)
from services.gateway.artifact_schemas import EntryIn, PreviewIn, PreviewPage
from services.gateway.bodies import is_file
from services.gateway.deps import CommandIdDep, DeskDep, OrderedByDep, PartsDep
from services.gateway.domain.places import place
from services.gateway.known import refuse_unknown_company, refuse_unknown_task
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.uploads import FORM, described_upload, form_fields, json_body, media_type

of_tasks = APIRouter(prefix="/tasks/{task_id}/previews", tags=["previews"])
router = APIRouter(prefix="/previews", tags=["previews"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
ZIP = "application/zip"
ZIPS = frozenset({ZIP, "application/x-zip-compressed", "application/octet-stream"})
Which = Annotated[str, Path(pattern=r"^(latest|approved|[1-9][0-9]{0,8})$", examples=["latest"])]
Version = Annotated[int, Query(ge=1, le=999_999_999)]
EntryQuery = Annotated[
    str | None, Query(max_length=300, description="of a ZIP that is the whole body: the page that opens first")
]


@of_tasks.post(
    "/publish",
    status_code=202,
    responses=describe(404, 408, 413, 415),
    openapi_extra=described_upload(EntryIn, PreviewIn, ZIP),
)
async def publish_preview(
    request: Request,
    desk: DeskDep,
    parts: PartsDep,
    by: OrderedByDep,
    task_id: UUID,
    command_id: CommandIdDep,
    response: Response,
    name: Annotated[str | None, Query(max_length=200, description="of a ZIP that is the whole body")] = None,
    entry: EntryQuery = None,
) -> Preview:
    """A ZIP of up to 50 MiB: in a form as the field `file`, as the body, or as JSON the id of an artifact that is one.

    Answered once it is on record; `state` becomes `ready` or `failed`, and `error` says why. See Location.
    """
    await desk.ask(GetTask(task_id=task_id))  # before anything is read
    order = {"command_id": command_id, "task_id": task_id, "by": by}
    if is_file(request.scope):
        refuse_what_is_no_zip(request)
        async with parts.uploads.receive(request, limit=LARGEST_ARCHIVE) as upload:
            if not upload.size:
                raise Rejection(Code.INVALID, "the ZIP is empty (0 bytes); send one with an index.html")
            given = form_fields(EntryIn, {"name": name, "entry": entry} | dict(upload.fields))
            ref = await parts.uploads.store(upload, company=desk.company, content_type=ZIP)
            asked = SubmitPreview(**order, ref=ref, name=given.name or upload.name, entry=given.entry)
            preview = await desk.ask(asked)
    else:
        known = await json_body(request, PreviewIn)
        preview = await desk.ask(SubmitPreview(**order, artifact_id=known.artifact_id, entry=known.entry))
    response.headers["Location"] = place(desk.company, f"/previews/{preview.id}")
    return preview


def refuse_what_is_no_zip(request: Request) -> None:
    """By what it is called; whether it is one shows when it is unpacked."""
    if (sent := media_type(request)) != FORM and sent not in ZIPS:
        text = f"send a ZIP as {ZIP}, or in a form ({FORM}) as the field `file`; this is {sent[:100]!r}"
        raise Rejection(Code.UNSUPPORTED_MEDIA_TYPE, text)


@of_tasks.get("", responses=describe(404))
async def list_task_previews(
    desk: DeskDep, parts: PartsDep, page: PageDep, task_id: UUID, state: PreviewState | None = None
) -> PreviewPage:
    """Its versions, the newest first."""
    found = await desk.ask(ListPreviews(task_id=task_id, state=state, **page.bounds))
    if not found.total:
        await refuse_unknown_task(desk, parts.feed, task_id)
    return page.of(PreviewPage, found.items, found.total)


@of_tasks.get("/compare", responses=describe(404))
async def compare_previews(
    desk: DeskDep, task_id: UUID, from_version: Annotated[Version, Query(alias="from")], to: Version
) -> PreviewChanges:
    """Files that version `to` has added, removed and changed since version `from`."""
    return await desk.ask(ComparePreviews(task_id=task_id, from_version=from_version, to_version=to))


@of_tasks.get("/{which}", responses=describe(404))
async def get_task_preview(desk: DeskDep, task_id: UUID, which: Which) -> Preview:
    """`latest`, the newest that is ready; `approved`, the one that is pinned; or a version by its number."""
    return await desk.ask(GetPreview(task_id=task_id, which=which))


@router.get("", responses=describe(404))
async def list_previews(
    desk: DeskDep,
    page: PageDep,
    task_id: UUID | None = None,
    run_id: UUID | None = None,
    state: PreviewState | None = None,
) -> PreviewPage:
    found = await desk.ask(ListPreviews(task_id=task_id, run_id=run_id, state=state, **page.bounds))
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(PreviewPage, found.items, found.total)


@router.get("/{preview_id}", responses=describe(404))
async def get_preview(desk: DeskDep, preview_id: UUID) -> Preview:
    return await desk.ask(GetPreview(preview_id=preview_id))


@router.post("/{preview_id}/pin", responses=describe(404, 409))
async def pin_preview(desk: DeskDep, by: OrderedByDep, preview_id: UUID, command_id: CommandIdDep) -> Preview:
    """Makes it the approved version of its task, which stays whatever is published later; the one that was loses its pin."""
    return await desk.ask(PinPreview(command_id=command_id, preview_id=preview_id, by=by))


@router.post("/{preview_id}/unpin", responses=describe(404))
async def unpin_preview(desk: DeskDep, by: OrderedByDep, preview_id: UUID, command_id: CommandIdDep) -> Preview:
    return await desk.ask(UnpinPreview(command_id=command_id, preview_id=preview_id, by=by))
