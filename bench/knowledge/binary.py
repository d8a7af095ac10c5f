"""Rows for COPY in Postgres' binary format, made by numpy at once. Runs in the peers' environments too: numpy only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"

#: how a field is written, and its values: one for each row, or one for all
Field = tuple[str, Any]


def as_bytes(values: Sequence[bytes], size: int) -> Field:
    return f"V{size}", np.frombuffer(b"".join(values), f"V{size}")


def same(value: bytes) -> Field:
    return f"V{len(value)}", np.void(value)


def vectors_of(vectors: Any, kind: str) -> Field:
    """`kind` is f4 for a `vector`, f2 for a `halfvec`: its width, two bytes unused, its numbers."""
    width = vectors.shape[1]
    rows = np.zeros(len(vectors), [("width", ">i2"), ("unused", ">i2"), ("numbers", f">{kind}", (width,))])
    rows["width"], rows["numbers"] = width, vectors
    return f"V{rows.dtype.itemsize}", rows.view(f"V{rows.dtype.itemsize}")


def copied(rows: int, fields: Sequence[Field]) -> io.BytesIO:
    kinds: list[Any] = [("fields", ">i2")]
    for at, (kind, _) in enumerate(fields):
        kinds += [(f"size_{at}", ">i4"), (f"value_{at}", kind)]
    table = np.zeros(rows, kinds)
    table["fields"] = len(fields)
    for at, (_, values) in enumerate(fields):
        table[f"size_{at}"] = table.dtype[f"value_{at}"].itemsize
        table[f"value_{at}"] = values
    return io.BytesIO(HEADER + table.tobytes() + END)
