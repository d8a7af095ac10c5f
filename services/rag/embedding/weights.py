"""The weights of all-MiniLM-L6-v2."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from services.rag.embedding.published import weights_file

DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def load_weights() -> dict[str, Any]:
    """By name, as they lie in the file. Raises NoModel."""
    data = np.memmap(weights_file(), dtype=np.uint8, mode="r")
    length = int(np.frombuffer(data[:8], "<u8")[0])
    named = json.loads(data[8 : 8 + length].tobytes())
    named.pop("__metadata__", None)
    found = {}
    for name, at in named.items():
        begin, end = (8 + length + offset for offset in at["data_offsets"])
        found[name] = data[begin:end].view(DTYPES[at["dtype"]]).reshape(at["shape"])
    return found
