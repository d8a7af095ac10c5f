"""One file as an answer: its type, what may be kept of it, compressed or a part, from memory or as it comes."""

from __future__ import annotations

from functools import lru_cache

from chassis.conditions import Part, Unsatisfiable, is_known, part, tag, takes_gzip
from services.publisher.domain.isolation import SVG, Headers, of_picture
from services.publisher.domain.media import HTML, UNKNOWN, content_type_of, is_text
from services.publisher.serving.answers import Answer, Asked
from services.publisher.serving.shelf import SMALLEST_PACKED, Shelf

LOOK_ANEW = (b"cache-control", b"private, no-cache")
FOR_EVER = (b"cache-control", b"private, max-age=31536000, immutable")
VARY = (b"vary", b"accept-encoding")
RANGES = (b"accept-ranges", b"bytes")


async def file(
    shelf: Shelf, asked: Asked, company: str, path: str, sha256: str, size: int, common: Headers, *, fixed: bool
) -> Answer:
    """`fixed`: at this address there will never be another content. Raises Away."""
    content_type = content_type_of(path)
    packable = is_text(content_type) and size >= SMALLEST_PACKED and shelf.keeps(size)
    headers = list(_headers(content_type, common))
    headers.append(FOR_EVER if fixed and content_type != HTML else LOOK_ANEW)
    if packable:
        headers.append(VARY)
    plain, packed = tag(sha256), tag(sha256, "gzip")
    pack = packable and takes_gzip(asked.headers.get("accept-encoding"))
    headers.append((b"etag", (packed if pack else plain).encode()))
    if is_known(asked.headers.get("if-none-match"), packed if pack else plain):
        return Answer(304, headers, 0)
    try:
        wanted = part(asked.range, asked.headers.get("if-range"), plain, size)
    except Unsatisfiable:
        return Answer(416, [*headers, (b"content-range", f"bytes */{size}".encode())], 0)
    if wanted is not None:
        headers = [(name, plain.encode() if name == b"etag" else value) for name, value in headers]
        headers.append((b"content-range", f"bytes {wanted.first}-{wanted.last}/{size}".encode()))
        return await _some(shelf, company, sha256, size, wanted, headers)
    if pack:
        body = await shelf.packed(company, sha256, size)
        return Answer(200, [*headers, (b"content-encoding", b"gzip")], len(body), body)
    headers.append(RANGES)
    return await _all(shelf, asked, company, sha256, size, headers)


async def _all(
    shelf: Shelf, asked: Asked, company: str, sha256: str, size: int, headers: list[tuple[bytes, bytes]]
) -> Answer:
    if asked.method == "HEAD" or size == 0:
        return Answer(200, headers, size)
    if shelf.keeps(size):
        return Answer(200, headers, size, await shelf.read(company, sha256, size))
    return Answer(200, headers, size, pieces=await shelf.stream(company, sha256, 0, size - 1))


async def _some(
    shelf: Shelf, company: str, sha256: str, size: int, wanted: Part, headers: list[tuple[bytes, bytes]]
) -> Answer:
    length = wanted.last - wanted.first + 1
    if shelf.keeps(size):
        whole = await shelf.read(company, sha256, size)
        return Answer(206, headers, length, whole[wanted.first : wanted.last + 1])
    return Answer(206, headers, length, pieces=await shelf.stream(company, sha256, wanted.first, wanted.last))


@lru_cache(maxsize=256)
def _headers(content_type: str, common: Headers) -> Headers:
    if content_type == SVG:
        common = of_picture(common)
    shown = f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type
    headers = (*common, (b"content-type", shown.encode()))
    return headers if content_type != UNKNOWN else (*headers, (b"content-disposition", b"attachment"))
