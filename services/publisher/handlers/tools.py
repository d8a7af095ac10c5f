"""Tools that agents use while they work on a node: what they deliver is staged until the attempt completes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.context import Context
from chassis.depot import Depot
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.artifacts import AddLink, PublishPreviewTool, WriteFile
from contracts.errors import Code, Rejection
from contracts.tool import ToolResult, UseTool
from services.publisher.domain.limits import MOST_LINKS, refusal
from services.publisher.domain.media import content_type_of
from services.publisher.domain.outputs import summary_of
from services.publisher.domain.paths import NoSite, flaw, site
from services.publisher.store.staged import ONE, File, Staged, StagedStore


class Tools:
    """A model is told the `text`, and of a refusal why: it may do it differently."""

    def __init__(self, uow: UnitOfWork, depot: Depot) -> None:
        self._uow = uow
        self._depot = depot

    async def write_file(self, request: WriteFile, context: Context) -> ToolResult:
        """Raises Rejection(bad_request)."""
        path, data = request.arguments.path, request.arguments.content.encode()
        _check(path)
        type = content_type_of(path)
        sha256 = await self._depot.keep(request.company, data, type)
        async with self._using(request, context) as (tx, store, staged):
            if why := refusal(path, len(data), {name: file.size for name, file in staged.files.items()}):
                raise Rejection(Code.BAD_REQUEST, why)
            file = File(sha256, len(data), type, summary_of(request.arguments.content, type))
            await store.add(request.company, request.context, "file", path, path, file)
            return tx.answer(ToolResult(text=f"{path} is written, {len(data):,} bytes of {type}"))

    async def publish_preview(self, request: PublishPreviewTool, context: Context) -> ToolResult:
        """Raises Rejection(bad_request)."""
        entry = request.arguments.entry
        _check(entry)
        async with self._using(request, context) as (tx, store, staged):
            await store.add(request.company, request.context, "preview", ONE, entry)
            return tx.answer(ToolResult(text=_of_the_site(staged, entry)))

    async def add_link(self, request: AddLink, context: Context) -> ToolResult:
        """Raises Rejection(bad_request)."""
        url, title = request.arguments.url, request.arguments.title
        if not url.isprintable():
            raise Rejection(Code.BAD_REQUEST, "the address has characters that nobody can see; give it without them")
        async with self._using(request, context) as (tx, store, staged):
            if len(staged.links.keys() - {url}) >= MOST_LINKS:
                raise Rejection(Code.BAD_REQUEST, f"there are {MOST_LINKS} links already; put more into a document")
            await store.add(request.company, request.context, "link", url, title)
            return tx.answer(ToolResult(text=f"the link {title!r} is added"))

    @asynccontextmanager
    async def _using(self, request: UseTool, context: Context) -> AsyncIterator[tuple[Tx, StagedStore, Staged]]:
        async with self._uow.order(request, context) as tx:
            store = StagedStore(tx.conn)
            yield tx, store, await store.hold(request.context)


def _check(path: str) -> None:
    if found := flaw(path):
        raise Rejection(Code.BAD_REQUEST, f"{path!r} {found}")


def _of_the_site(staged: Staged, entry: str) -> str:
    """What a model can still mend is told at once; it may write the files afterwards as well."""
    try:
        found = site(staged.files.keys(), entry)
    except NoSite as missing:
        return f"noted; but so far {missing}. Write the files before you end"
    return f"noted: {len(found.files)} files will be published when your work is accepted, and {entry} opens first"
