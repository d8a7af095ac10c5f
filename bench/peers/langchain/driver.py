"""LangChain's driver: `PGVectorStore` with the splitter of its tutorials, without an index as it comes, and with one."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg
from langchain_core.embeddings import Embeddings
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig
from langchain_postgres.v2.indexes import HNSWIndex
from langchain_text_splitters import RecursiveCharacterTextSplitter

from bench.knowledge.binary import as_bytes, copied, same, vectors_of
from bench.peers.finding import serve
from bench.peers.langchain.minilm import MiniLM

WIDTH = 384
SPLITTER = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200)
CONFIGURATION = {"en": "pg_catalog.english", "fr": "pg_catalog.french"}
TSV = "content_tsv"


class LangChain:
    def __init__(self, url: str, embeddings: Embeddings) -> None:
        self._url, self._embeddings = url, embeddings
        self._engine = PGEngine.from_connection_string(url.replace("postgresql://", "postgresql+asyncpg://"))
        self._stores: dict[str, PGVectorStore] = {}
        self._language: dict[str, str] = {}

    async def fill(self, collection: str, language: str, ids: list[str], texts: list[str]) -> int:
        table, self._language[collection] = collection.replace("-", "_"), language
        hybrid = self._hybrid(language)
        await self._engine.ainit_vectorstore_table(
            table, WIDTH, metadata_columns=[Column("source", "TEXT")], hybrid_search_config=hybrid
        )
        store = self._stores[collection] = await PGVectorStore.create(
            self._engine, self._embeddings, table, metadata_columns=["source"], hybrid_search_config=hybrid
        )
        documents = SPLITTER.create_documents(texts, [{"source": id} for id in ids])
        await store.aadd_documents(documents)
        await store.aapply_hybrid_search_index()
        return len(documents)

    def _hybrid(self, language: str, question: str = "", limit: int = 4) -> HybridSearchConfig:
        return HybridSearchConfig(
            tsv_column=TSV, tsv_lang=CONFIGURATION[language], fts_query=question, primary_top_k=limit,
            secondary_top_k=limit, index_name=f"{TSV}_{language}_{len(self._stores)}",
        )  # fmt: skip

    async def ask(self, collection: str, question: str, limit: int, way: str) -> list[str]:
        """A configuration for each question: one that is kept goes on searching for its first."""
        hybrid = self._hybrid(self._language[collection], question, limit) if way == "hybrid" else None
        found = await self._stores[collection].asimilarity_search(question, k=limit, hybrid_search_config=hybrid)
        return [document.metadata["source"] for document in found]

    async def load(self, start: int, vectors: Any, spaces: list[int]) -> None:
        """By COPY: its own way takes a statement and a commit for each row."""
        if start == 0:
            await self._engine.ainit_vectorstore_table("library", WIDTH, metadata_columns=[Column("space", "INTEGER")])
            self._stores["library"] = await PGVectorStore.create(
                self._engine, self._embeddings, "library", metadata_columns=["space"]
            )
        numbers = range(start, start + len(spaces))
        ids = as_bytes([number.to_bytes(16) for number in numbers], 16)
        data = copied(len(spaces), [ids, same(b"-"), vectors_of(vectors, "f4"), (">i4", spaces)])
        columns = ["langchain_id", "content", "embedding", "space"]
        connection = await asyncpg.connect(self._url)
        try:
            await connection.copy_to_table("library", source=data, columns=columns, format="binary")
            await connection.execute("analyze library")
        finally:
            await connection.close()

    async def index(self) -> None:
        await self._stores["library"].aapply_vector_index(HNSWIndex())

    async def near(self, vector: list[float], spaces: list[int], limit: int) -> list[int]:
        kept: dict[str, Any] = {"space": spaces[0]} if len(spaces) == 1 else {"space": {"$in": spaces}}
        found = await self._stores["library"].asimilarity_search_by_vector(vector, k=limit, filter=kept)
        return [int.from_bytes(bytes.fromhex(str(document.id).replace("-", ""))) for document in found]


async def main() -> None:
    finder = LangChain(os.environ["BENCH_DATABASE_URL"], MiniLM(os.environ["BENCH_MODEL"]))
    await serve(finder, "langchain-postgres", "langchain-core", "langchain-text-splitters")


if __name__ == "__main__":
    asyncio.run(main())
