"""The same weights for LangChain: padded to the longest of a batch, pooled and normalised as sentence-transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from langchain_core.embeddings import Embeddings
from tokenizers import Tokenizer

BATCH = 32


class MiniLM(Embeddings):  # type: ignore[misc]  # its base is not installed where types are checked
    def __init__(self, directory: str) -> None:
        self._tokenizer = Tokenizer.from_file(str(Path(directory) / "onnx" / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()
        self._session = onnxruntime.InferenceSession(str(Path(directory) / "onnx" / "model.onnx"))

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Those of like length together, as sentence-transformers has them."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        found = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._vectors([texts[row] for row in rows])
        return [row.tolist() for row in found]

    def _vectors(self, texts: list[str]) -> Any:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden: Any = self._session.run(None, given)[0]
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
