"""Answers browsers: which site, which version, which file; and says why not when there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from prometheus_client import Counter

from contracts.artifacts import Artifact, Visibility
from services.publisher.domain.addresses import Origin, digest
from services.publisher.domain.destination import CommonHost, OwnHost, SharedHost, Which, host, place, within
from services.publisher.domain.isolation import Mode, headers
from services.publisher.domain.lookup import Folder, find
from services.publisher.domain.media import HTML, content_type_of, is_text
from services.publisher.serving.answers import Answer, Asked, disposition, moved, refusal
from services.publisher.serving.files import file
from services.publisher.serving.shelf import Shelf
from services.publisher.serving.sites import Away, Sites
from services.publisher.store.sites import Shared, Site, Tree

ANSWERS = Counter("publisher_preview_answers_total", "Answers to browsers", ["status"])
HEARD = frozenset({b"host", b"accept", b"accept-encoding", b"if-none-match", b"range", b"if-range"})
READING = frozenset({"GET", "HEAD"})
SOON = 1  # seconds
LATER = 5
SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "application/pdf", HTML})
NOT_HERE = ("There is no preview at this address", "Ask for the address again: `fluidcrew previews ls` shows it.")

DELETED = ("This preview is gone", "Its task was deleted, and what it delivered with it; ask whoever sent you here.")


class Application:
    """Plain ASGI. Cookies and credentials are not looked at, and none are ever set."""

    def __init__(self, sites: Sites, shelf: Shelf, origin: Origin, frames: tuple[str, ...]) -> None:
        self._sites = sites
        self._shelf = shelf
        self._domain = origin.domain
        self._common = {mode: headers(mode, frames) for mode in Mode}
        delivered = self._common[Mode.DELIVERED]  # a browser's reader of PDF does not open in a sandbox
        self._pdf = tuple((n, v if n != b"content-security-policy" else b"script-src 'none'") for n, v in delivered)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked = _asked(scope)
        try:
            answer = await self._answer(asked)
        except Away as away:
            answer = refusal(asked, 503, "Not to be had right now", f"{away}; try again in a moment.", again=LATER)
        _answers(answer.status).inc()
        await _send(send, asked, answer)

    async def _answer(self, asked: Asked) -> Answer:
        if asked.method not in READING:
            return refusal(asked, 405, "Previews can only be read", "use GET or HEAD")
        where = host(asked.headers.get("host", ""), self._domain)
        if isinstance(where, OwnHost):
            return await self._on_own_host(asked, where)
        if isinstance(where, SharedHost):
            return await self._shared(asked, where)
        return await self._on_common_host(asked) if isinstance(where, CommonHost) else refusal(asked, 404, *NOT_HERE)

    async def _on_own_host(self, asked: Asked, where: OwnHost) -> Answer:
        site = await self._sites.of_label(where.label)
        if site is None:
            return refusal(asked, 404, *NOT_HERE)
        rest = within(asked.path, site.company_id, site.project_id, site.task_id)
        return await self._in_site(asked, site, where.which, rest, Mode.OWN)

    async def _on_common_host(self, asked: Asked) -> Answer:
        found = place(asked.path)
        site = found and await self._sites.of_task(found.company, found.project, found.task_id)
        if not found or not site:
            return refusal(asked, 404, *NOT_HERE)
        return await self._in_site(asked, site, found.which, found.rest, Mode.COMMON)

    async def _in_site(self, asked: Asked, site: Site, which: Which, rest: str | None, mode: Mode) -> Answer:
        if site.deleted:
            return refusal(asked, 410, *DELETED)
        tree = await self._sites.tree(site, which)
        if tree is None:
            return await self._unready(asked, site, which)
        if mode is Mode.COMMON and tree.visibility is Visibility.PRIVATE:
            return refusal(asked, 404, *NOT_HERE)
        if rest is None:
            return moved(asked, self._common[mode])
        return await self._from_tree(asked, site.company_id, tree, rest, mode, fixed=isinstance(which, int))

    async def _from_tree(self, asked: Asked, company: str, tree: Tree, rest: str, mode: Mode, *, fixed: bool) -> Answer:
        found = find(tree.files, tree.entry, rest)
        if found is None:
            named = f"this version of the preview has no file {rest[:200]!r}"
            return refusal(asked, 404, "No such file", f"{named}; correct the link, or publish it again with the file.")
        if isinstance(found, Folder):
            return moved(asked, self._common[mode])
        sha256, size = tree.files[found.path]
        return await file(self._shelf, asked, company, found.path, sha256, size, self._common[mode], fixed=fixed)

    async def _unready(self, asked: Asked, site: Site, which: Which) -> Answer:
        state = await self._sites.state(site, which)
        if which != "approved" and state in ("received", "publishing"):
            return refusal(
                asked, 503, "Almost there", "This preview is being published; it opens by itself.", again=SOON
            )
        if which == "approved":
            return refusal(asked, 404, "Nothing is approved yet", "Pin a version: `fluidcrew previews pin`.")
        if state == "failed":
            return refusal(asked, 404, "It could not be published", "`fluidcrew previews ls` says why.")
        return refusal(asked, 404, "There is no such version", "`fluidcrew previews ls` lists those that are kept.")

    async def _shared(self, asked: Asked, where: SharedHost) -> Answer:
        shared = await self._sites.shared(digest(where.secret))
        if shared is None:
            return refusal(asked, 404, *NOT_HERE)
        if shared.over or shared.expires_at <= datetime.now(UTC):  # also while nobody can be asked
            return refusal(asked, 410, "This link is over", "It has expired, or was taken back; ask for a new one.")
        if shared.artifact_id is not None:
            return await self._delivered(asked, shared)
        tree = await self._sites.shared_tree(shared)
        if tree is None:
            return refusal(asked, 404, *NOT_HERE)
        return await self._from_tree(asked, shared.company_id, tree, asked.path[1:], Mode.OWN, fixed=False)

    async def _delivered(self, asked: Asked, shared: Shared) -> Answer:
        found = await self._sites.shared_file(shared)
        if found is None or found.sha256 is None or found.size is None:
            return refusal(asked, 404, *NOT_HERE)
        path = found.path or found.name
        common = self._pdf if content_type_of(path) == "application/pdf" else self._common[Mode.DELIVERED]
        company = shared.company_id
        answer = await file(self._shelf, asked, company, path, found.sha256, found.size, common, fixed=False)
        name, kind = path.rsplit("/", 1)[-1], _kind(asked, found, path)
        kept = [(n, v) for n, v in answer.headers if n != b"content-disposition"]
        answer.headers = [*kept, (b"content-disposition", disposition(kind, name))]
        return answer


@cache
def _answers(status: int) -> Counter:
    return ANSWERS.labels(status)


def _kind(asked: Asked, artifact: Artifact, path: str) -> str:
    content_type = content_type_of(path)
    readable = content_type in SHOWN or is_text(content_type)
    return "inline" if readable and asked.query != "download" else "attachment"


def _asked(scope: dict[str, Any]) -> Asked:
    heard = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in HEARD}
    return Asked(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), heard)


async def _send(send: Any, asked: Asked, answer: Answer) -> None:
    sized = answer.headers if answer.status == 304 else [*answer.headers, (b"content-length", b"%d" % answer.size)]
    await send({"type": "http.response.start", "status": answer.status, "headers": sized})
    if answer.pieces is None or asked.method == "HEAD":
        body = b"" if asked.method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})
        return
    async for piece in answer.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
