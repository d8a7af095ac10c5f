"""The local model at work: texts to vectors of length 1, each computed alone.

In a batch its company would change a vector's last digits, because the range of eight bits is shared by all; and no batch
is faster on a processor: what is short would be computed as if it were long.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from services.rag.embedding.counting import WINDOW
from services.rag.embedding.graph import WIDTH, graph_file
from services.rag.embedding.published import NoModel, tokenizer_file
from services.rag.embedding.runtime import load_runtime


class MiniLM:
    def __init__(self, directory: Path, threads: int) -> None:
        """Each thread computes texts of its own: none waits for another, as they would within one. Raises NoModel."""
        try:
            runtime = load_runtime()
            from tokenizers import Tokenizer
        except ImportError as error:
            raise NoModel(f"{error.name} is not installed; run `make setup`") from None

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file()))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(WINDOW)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = str(graph_file(directory))
        self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._threads = ThreadPoolExecutor(threads)

    def vectors(self, texts: Sequence[str]) -> Any:
        """One row of float32 per text: the same for the same text, whatever else is asked with it."""
        encoded = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        found = np.empty((len(encoded), WIDTH), np.float32)
        order = sorted(range(len(encoded)), key=lambda n: -len(encoded[n]))  # the longest first: the end is shared best
        for place, vector in zip(order, self._threads.map(self._vector, [encoded[n] for n in order]), strict=True):
            found[place] = vector
        return found

    def _vector(self, tokens: Sequence[int]) -> Any:
        ids = np.array([tokens], np.int64)
        return self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
