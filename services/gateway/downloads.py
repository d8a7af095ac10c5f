"""The bytes of an artifact or document: as an attachment, whole or in part, or as a page to read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from chassis.blobs import Blobs
from chassis.conditions import Part, Unsatisfiable, is_known, part, tag
from contracts.artifacts import ArtifactDetail
from contracts.errors import Code, Rejection
from contracts.plan import ArtifactKind
from contracts.refs import BlobRef
from services.gateway.domain.pages import POLICY, page
from services.gateway.renderer import Renderer

LARGEST_READ = 128 * 1024  # bytes of a text that becomes a page
BYTES = "application/octet-stream"
#: a text that somebody else wrote must not act in our origin, whatever its type says
INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache"}
NOT_PLAIN = re.compile(r"[^A-Za-z0-9._ ()+,=@~-]")


def attachment(name: str) -> str:
    """Content-Disposition with the original name (RFC 6266): plain for old clients, exact for all others."""
    plain = NOT_PLAIN.sub("_", name.rsplit("/", 1)[-1]).strip() or "file"
    exact = quote(name.rsplit("/", 1)[-1], safe="", encoding="utf-8", errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"


async def download(blobs: Blobs, artifact: ArtifactDetail, request: Request) -> Response:
    """Raises Rejection when there are no bytes, RetryLater when they cannot be had now."""
    return await file_of(blobs, _bytes_of(artifact), artifact.name, artifact.content_type, request)


async def file_of(blobs: Blobs, ref: BlobRef, name: str, content_type: str | None, request: Request) -> Response:
    """Under the name. Raises RetryLater when it cannot be had now."""
    etag, asked = tag(ref.sha256), request.headers
    headers = INERT | {"ETag": etag, "Accept-Ranges": "bytes", "Content-Disposition": attachment(name)}
    if is_known(asked.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    try:
        wanted = part(asked.get("range"), asked.get("if-range"), etag, ref.size)
    except Unsatisfiable:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{ref.size}"})
    first, last = wanted or Part(0, ref.size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{ref.size}"
    frames = await _begun(blobs, ref, first, last)
    return StreamingResponse(frames, 200 if wanted is None else 206, headers=headers, media_type=content_type or BYTES)


async def _begun(blobs: Blobs, ref: BlobRef, first: int, last: int) -> AsyncIterator[bytes]:
    """Once the first bytes are here: what cannot be had is an answer, not a body that breaks off."""
    if ref.size == 0:
        return _all(b"", None)
    pieces = blobs.pieces(ref.key, first, last)
    return _all(await anext(pieces), pieces)


async def _all(first: bytes, rest: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    yield first
    if rest is not None:
        async with aclosing(rest) as following:  # type: ignore[type-var]
            async for data in following:
                yield data


async def rendered(blobs: Blobs, renderer: Renderer, artifact: ArtifactDetail) -> Response:
    """Raises Rejection for what is no text, or too long a one."""
    ref = _bytes_of(artifact)
    if artifact.content is None:
        if not _is_text(ref.content_type):
            raise Rejection(
                Code.UNSUPPORTED_MEDIA_TYPE, f"{artifact.name} is no text ({ref.content_type}); download it"
            )
        if ref.size > LARGEST_READ:
            raise Rejection(Code.TOO_LARGE, f"{artifact.name} is too long for a page; download it", limit=LARGEST_READ)
    text = artifact.content if artifact.content is not None else (await blobs.get(ref)).decode("utf-8", "replace")
    content = await renderer.body(artifact.name, text, ref.content_type)
    return HTMLResponse(page(artifact.name, content), headers=INERT)


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type.endswith(("json", "xml", "yaml", "toml"))


def _bytes_of(artifact: ArtifactDetail) -> BlobRef:
    if artifact.ref is not None:
        return artifact.ref
    if artifact.kind is ArtifactKind.LINK:
        message = f"this is a link; open {artifact.url}"
    else:
        message = (
            f"this preview is an agent's files; {f'open {artifact.url}' if artifact.url else 'it is not ready yet'}"
        )
    raise Rejection(Code.ILLEGAL_STATE, message, url=artifact.url)
