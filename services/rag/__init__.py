"""Rag owns what the company knows: spaces with rights, documents with versions, and the search in them with its receipts.

Accepts: rpc.rag.space.* (create, list, get, change, remove), rpc.rag.document.* (add, list, get, versions, file, reindex,
    remove), rpc.rag.knowledge.* (search, stats), rpc.rag.retrieval.list, rpc.rag.tool.search_knowledge.
Emits: rag.document.*.
Never: shows a version that is not complete, or a chunk to who may not read its space: rights are part of the search itself.
"""
