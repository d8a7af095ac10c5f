"""What tests of ingestion send, and how they wait for its end."""

from __future__ import annotations

import hashlib

from chassis.testing.eventually import eventually
from contracts.knowledge import Document, DocumentState, GetDocument, document_key
from contracts.refs import BlobRef
from tests.rag.conftest import World

ENDED = (DocumentState.READY, DocumentState.FAILED, DocumentState.NEEDS_OCR)
TIDES = "Two high waters a day, each about fifty minutes later than the day before."
LONG = "\n\n".join(f"Paragraph {n} tells of berth {n} in the harbour, and of who pays for it." * 6 for n in range(120))


async def put(world: World, data: bytes, content_type: str = "application/octet-stream") -> BlobRef:
    """As the gateway stores what people send."""
    await world.executor.blobs.put(data, company="default/documents", content_type=content_type)
    digest = hashlib.sha256(data).hexdigest()
    key = document_key("default", digest)
    return BlobRef(key=key, sha256=digest, size=len(data), content_type=content_type)


async def ended(world: World, document: Document, state: DocumentState = DocumentState.READY) -> Document:
    async def there() -> Document | None:
        found = await world.ask(GetDocument(document_id=document.id))
        return found if found.state in ENDED and found.version >= document.version else None

    found = await eventually(there, what=f"the end of {document.title}", timeout=60)
    assert found.state is state, found.error
    return found
