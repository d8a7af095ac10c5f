"""What rag answers: one line each."""

from __future__ import annotations

from chassis.bus import Bus
from contracts import knowledge as k
from contracts import retrievals as r
from services.rag.handlers.documents import Documents
from services.rag.handlers.searching import Searching
from services.rag.handlers.spaces import Spaces
from services.rag.handlers.tools import Tools


def subscribe(bus: Bus, spaces: Spaces, documents: Documents, searching: Searching, tools: Tools) -> None:
    bus.serve(k.CreateSpace, spaces.create)
    bus.serve(k.ListSpaces, spaces.page)
    bus.serve(k.GetSpace, spaces.space)
    bus.serve(k.ChangeSpace, spaces.change)
    bus.serve(k.RemoveSpace, spaces.remove)
    bus.serve(k.AddDocument, documents.add)
    bus.serve(k.ListDocuments, documents.page)
    bus.serve(k.GetDocument, documents.document)
    bus.serve(k.ListVersions, documents.versions)
    bus.serve(k.GetDocumentFile, documents.file)
    bus.serve(k.ReindexDocument, documents.reindex)
    bus.serve(k.RemoveDocument, documents.remove)
    bus.serve(k.Search, searching.search)
    bus.serve(k.GetStats, spaces.stats)
    bus.serve(r.GetRetrievals, tools.retrievals)
    bus.serve(r.SearchKnowledge, tools.search)
