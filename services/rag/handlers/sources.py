"""Where a document's bytes come from: a file that the gateway has stored, an artifact, or text in the request itself."""

from __future__ import annotations

from chassis.bus import Bus
from chassis.context import Context
from chassis.scratch import Scratch
from contracts.artifacts import GetArtifact
from contracts.errors import Code, Rejection
from contracts.knowledge import AddDocument
from contracts.refs import BlobRef
from services.rag.depot import Depot
from services.rag.store.documents import Sent

SOURCES = ("ref", "artifact_id", "text")
LARGEST_ARTIFACT = 64 * 2**20  # bytes, which are copied while somebody waits


class Sources:
    def __init__(self, bus: Bus, depot: Depot, scratch: Scratch) -> None:
        self.depot = depot
        self._bus = bus
        self._scratch = scratch

    async def of(self, request: AddDocument, context: Context) -> Sent:
        """What is kept of it, once its bytes are. Raises Rejection(invalid) or (not_found)."""
        given = [name for name in SOURCES if getattr(request, name) is not None]
        if len(given) != 1:
            raise _wrong("text", f"give exactly one of {', '.join(SOURCES)}; here are {' and '.join(given) or 'none'}")
        name, content_type, size, sha256 = request.name, "text/plain; charset=utf-8", 0, ""
        if request.text is not None:
            data = request.text.encode("utf-8", "replace")
            size, sha256 = len(data), await self.depot.keep(request.company, data, content_type)
        elif request.ref is not None:
            await self.depot.take(request.company, request.ref)
            content_type, size, sha256 = request.ref.content_type, request.ref.size, request.ref.sha256
        else:
            name, ref = await self._artifact(request, context)
            content_type, size, sha256 = ref.content_type, ref.size, ref.sha256
        return Sent(
            title=request.title,
            tags=sorted(set(request.tags)),
            dated=request.dated,
            name=name,
            content_type=content_type,
            size=size,
            sha256=sha256,
            made_by=request.by or context.actor or None,
        )

    async def _artifact(self, request: AddDocument, context: Context) -> tuple[str, BlobRef]:
        """A copy: what becomes of the artifact does not touch the document."""
        assert request.artifact_id is not None
        artifact = await self._bus.ask(GetArtifact(company=request.company, artifact_id=request.artifact_id), context)
        if artifact.ref is None:
            raise _wrong("artifact_id", "it is a link or a site and has no bytes; add the page's text itself")
        if artifact.ref.size > LARGEST_ARTIFACT:
            most = f"{LARGEST_ARTIFACT // 2**20} MiB"
            raise _wrong("artifact_id", f"it has {artifact.ref.size:,} bytes; up to {most} are copied: upload the file")
        await self._copy(request.company, artifact.ref)
        return request.name or artifact.name, artifact.ref

    async def _copy(self, company: str, ref: BlobRef) -> None:
        """Once: who asks again finds what came of it, however slow that was."""
        if not await self.depot.want(company, {ref.sha256: ref.size}):
            return
        async with self._scratch.room() as room:
            file = room / "artifact"
            await self.depot.blobs.get_file(ref, file)
            await self.depot.keep_file(company, file, ref.content_type, sha256=ref.sha256)


def _wrong(field: str, message: str) -> Rejection:
    return Rejection(Code.INVALID, f"{field}: {message}", errors=[{"loc": [field], "msg": message}])
