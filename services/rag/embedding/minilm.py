"""The local model at work: texts to vectors of length 1, in batches of texts of like length."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from services.rag.embedding.graph import WIDTH, graph_file
from services.rag.embedding.weights import NoModel, tokenizer_file

WINDOW = 256  # tokens, as the model was trained
BATCH = 8  # texts: enough to fill a core, few enough to be shared among them


class MiniLM:
    def __init__(self, directory: Path, threads: int) -> None:
        """Each thread has batches of its own: none waits for another, as they would within one. Raises NoModel."""
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise NoModel(f"{error.name} is not installed; run `make setup`") from None

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file()))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(WINDOW)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = str(graph_file(directory))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._threads = ThreadPoolExecutor(threads)

    def vectors(self, texts: Sequence[str]) -> Any:
        """One row of float32 per text."""
        encoded = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        found = np.empty((len(encoded), WIDTH), np.float32)
        order = sorted(range(len(encoded)), key=lambda n: -len(encoded[n]))  # the longest first: the end is shared best
        batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        made = self._threads.map(lambda rows: self._run([encoded[n] for n in rows]), batches)
        for rows, vectors in zip(batches, made, strict=True):
            found[rows] = vectors
        return found

    def _run(self, batch: Sequence[Sequence[int]]) -> Any:
        longest = max(map(len, batch))
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
