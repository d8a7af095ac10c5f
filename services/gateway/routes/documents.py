"""Documents of the company's knowledge: added, followed until they are searchable, read, replaced, removed."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from contracts.errors import Code, Rejection
from contracts.knowledge import (
    AddDocument,
    Document,
    DocumentGone,
    DocumentState,
    DocumentVersions,
    GetDocument,
    GetDocumentFile,
    GetSpace,
    ListDocuments,
    ListVersions,
    ReindexDocument,
    RemoveDocument,
    document_key,
)
from services.gateway.asking import Desk
from services.gateway.bodies import is_file
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OrderedByDep, Parts, PartsDep
from services.gateway.domain.places import place
from services.gateway.downloads import file_of
from services.gateway.knowledge_schemas import LARGEST_DOCUMENT, DocumentFields, DocumentIn, DocumentPage
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.routes.artifacts import AS_BYTES
from services.gateway.uploads import Upload, described_upload, form_fields, json_body

router = APIRouter(prefix="/knowledge/documents", tags=["knowledge"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
INLINE = 256 * 1024  # bytes of a text that travels with the request; a longer one by reference
TEXT = "text/plain; charset=utf-8"


def _in_query(
    space_id: Annotated[UUID | None, Query(description="of a file that is the whole body, as all these are")] = None,
    name: Annotated[str | None, Query(max_length=200, description="the file's")] = None,
    title: Annotated[str | None, Query(max_length=200)] = None,
    external_id: Annotated[str | None, Query(max_length=200)] = None,
    tags: Annotated[str | None, Query(max_length=4_000, description="with commas between them")] = None,
    dated: date | None = None,
) -> dict[str, str | None]:
    given = {
        "space_id": space_id,
        "name": name,
        "title": title,
        "external_id": external_id,
        "tags": tags,
        "dated": dated,
    }
    return {key: None if value is None else str(value) for key, value in given.items()}


InQueryDep = Annotated[dict[str, str | None], Depends(_in_query)]


@router.post(
    "",
    status_code=202,
    responses=describe(404, 408, 413, 415),
    openapi_extra=described_upload(DocumentFields, DocumentIn, "application/octet-stream"),
)
async def add_document(
    request: Request,
    desk: DeskDep,
    parts: PartsDep,
    by: OrderedByDep,
    command_id: CommandIdDep,
    in_query: InQueryDep,
    response: Response,
) -> Document:
    """A file (PDF, DOCX, HTML, Markdown or text) in a form as the field `file`, or as the body; or as JSON its text, or the
    id of an artifact.

    Answered once it is on record; `state` becomes `ready`, `failed` or `needs_ocr`, and `error` says why and what to do.
    The same `external_id`, or else title, in the space is the next version; the same content again changes nothing.
    """
    order: dict[str, Any] = {"command_id": command_id, "by": by}
    if is_file(request.scope):
        async with parts.uploads.receive(request, limit=LARGEST_DOCUMENT) as upload:
            added = await _file(desk, parts, upload, in_query, order)
    else:
        added = await _text(desk, parts, await json_body(request, DocumentIn), order)
    response.headers["Location"] = place(desk.company, f"/knowledge/documents/{added.id}")
    return added


async def _file(
    desk: Desk, parts: Parts, upload: Upload, in_query: dict[str, str | None], order: dict[str, Any]
) -> Document:
    name = in_query.pop("name") or upload.name
    given = form_fields(DocumentFields, in_query | dict(upload.fields))
    if not (title := given.title or name):
        message = "title: the file has no name; give `?name=` or `?title=`"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["query", "title"], "msg": message}])
    await desk.ask(GetSpace(space_id=given.space_id))  # before anything is stored
    ref = await parts.uploads.store(upload, company=desk.company, content_type=upload.type, place=document_key)
    return await desk.ask(AddDocument(**order, **dict(given) | {"title": title}, ref=ref, name=name))


async def _text(desk: Desk, parts: Parts, given: DocumentIn, order: dict[str, Any]) -> Document:
    data = (given.text or "").encode("utf-8")
    if len(data) <= INLINE or given.artifact_id is not None:
        return await desk.ask(AddDocument(**order, **dict(given)))
    await desk.ask(GetSpace(space_id=given.space_id))
    ref = await parts.blobs.put(data, company=f"{desk.company}/documents", content_type=TEXT)
    return await desk.ask(AddDocument(**order, **dict(given) | {"text": None}, ref=ref))


@router.get("", responses=describe(404))
async def list_documents(
    desk: DeskDep,
    page: PageDep,
    space_id: UUID | None = None,
    state: DocumentState | None = None,
    title_contains: Filter = None,
    tag: Filter = None,
) -> DocumentPage:
    wanted = ListDocuments(space_id=space_id, state=state, title_contains=title_contains, tag=tag, **page.bounds)
    found = await desk.ask(wanted)
    if not found.total and space_id is not None:
        await desk.ask(GetSpace(space_id=space_id))
    elif not found.total:
        await refuse_unknown_company(desk)
    return page.of(DocumentPage, found.items, found.total)


@router.get("/{document_id}", responses=describe(404))
async def get_document(desk: DeskDep, document_id: UUID) -> Document:
    """`state` is that of its newest version, `searchable` the version that search finds."""
    return await desk.ask(GetDocument(document_id=document_id))


@router.get("/{document_id}/versions", responses=describe(404))
async def list_document_versions(desk: DeskDep, document_id: UUID) -> DocumentVersions:
    return await desk.ask(ListVersions(document_id=document_id))


@router.get("/{document_id}/download", responses={**AS_BYTES, **describe(404)}, response_class=Response)
async def download_document(
    request: Request,
    desk: DeskDep,
    parts: PartsDep,
    document_id: UUID,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """What was sent, under its own name; of the newest version, or of another one."""
    found = await desk.ask(GetDocumentFile(document_id=document_id, version=version))
    return await file_of(parts.blobs, found.ref, found.name, found.ref.content_type, request)


@router.post("/{document_id}/reindex", status_code=202, responses=describe(404))
async def reindex_document(desk: DeskDep, document_id: UUID, command_id: CommandIdDep) -> Document:
    """Parsed, cut and embedded anew; what search finds stays until that is complete."""
    return await desk.ask(ReindexDocument(command_id=command_id, document_id=document_id))


@router.delete("/{document_id}", responses=describe(404))
async def remove_document(desk: DeskDep, by: OrderedByDep, document_id: UUID, command_id: CommandIdDep) -> DocumentGone:
    """From the answer on no search finds it; its text, vectors and files go."""
    return await desk.ask(RemoveDocument(command_id=command_id, document_id=document_id, by=by))
