"""Chroma's driver: one process, its own embedding function over the weights we have, everything else by default."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import chromadb
from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

from bench.peers.finding import serve

AT_ONCE = 5_000  # rows it takes in a call


class Chroma:
    def __init__(self, directory: str) -> None:
        self._client = chromadb.PersistentClient(directory, chromadb.Settings(anonymized_telemetry=False))
        self._embed: Any = ONNXMiniLM_L6_V2()

    async def fill(self, collection: str, language: str, ids: list[str], texts: list[str]) -> int:
        made = self._client.get_or_create_collection(collection, embedding_function=self._embed)
        for at in range(0, len(ids), AT_ONCE):
            made.add(ids=ids[at : at + AT_ONCE], documents=texts[at : at + AT_ONCE])
        return int(made.count())

    async def ask(self, collection: str, question: str, limit: int, way: str) -> list[str]:
        known = self._client.get_collection(collection, embedding_function=self._embed)
        found: list[str] = known.query(query_texts=[question], n_results=limit)["ids"][0]
        return found

    async def load(self, start: int, vectors: Any, spaces: list[int]) -> None:
        library = self._client.get_or_create_collection("library", embedding_function=None)
        for at in range(0, len(spaces), AT_ONCE):
            rows = range(at, min(at + AT_ONCE, len(spaces)))
            ids = [str(start + row) for row in rows]
            library.add(ids=ids, embeddings=vectors[rows], metadatas=[{"space": spaces[row]} for row in rows])

    async def near(self, vector: list[float], spaces: list[int], limit: int) -> list[int]:
        library = self._client.get_collection("library", embedding_function=None)
        where: Any = {"space": spaces[0]} if len(spaces) == 1 else {"space": {"$in": spaces}}
        return [int(id) for id in library.query(query_embeddings=[vector], n_results=limit, where=where)["ids"][0]]


if __name__ == "__main__":
    ONNXMiniLM_L6_V2.DOWNLOAD_PATH = Path(os.environ["BENCH_MODEL"])  # where it looks before it would download
    asyncio.run(serve(Chroma(os.environ["BENCH_DIRECTORY"]), "chromadb", "onnxruntime"))
