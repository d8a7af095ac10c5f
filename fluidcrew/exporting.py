"""Writes the sidecars of a run as files, where the predecessor's tools look for them."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from fluidcrew.client import Gateway
from fluidcrew.exits import Exit
from fluidcrew.naming import run_meant
from fluidcrew.render.places import command
from fluidcrew.render.words import count
from fluidcrew.sidecar_files import NODES, SUFFIX, root_of, written

PAGE = 200
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Exported:
    """`new` of the files were not there yet, or were different."""

    folder: Path
    files: int
    new: int


async def export(wanted: str, *, last: bool, to: Path | None) -> int:
    async with Gateway.of(os.environ) as api:
        run = await run_meant(api, wanted, last=last)
        done = await export_run(api, run.id, to or root_of(os.environ))
    print(f"{run.name}: {count(done.files, 'sidecar')} in {done.folder}, {done.new} of them new or changed")
    if done.files:
        print(f"check them: {command()} validate --strict {done.folder}")
    return Exit.OK


async def export_run(api: Gateway, run_id: str, root: Path) -> Exported:
    """The same names and the same bytes whenever it is done again; a run under way has more later. Raises Halt."""
    run = await api.get(f"/runs/{run_id}")
    folder = root / str(UUID(run_id))
    names = folder_names([node["key"] for node in run["dag"]["nodes"]])
    files = new = 0
    async for document in _sidecars(api, run_id):
        of = document["metadata"]
        path = folder / NODES / names[of["node"]] / f"attempt-{of['attempt']:03}-call-{of['call']:03}{SUFFIX}"
        files, new = files + 1, new + written(path, document, root)
    return Exported(folder, files, new)


def folder_names(keys: Collection[str]) -> dict[str, str]:
    """Keys as names of directories; told apart where a file system that ignores case would not."""
    alike = Counter(key.casefold() for key in keys)
    return {key: key if SAFE.fullmatch(key) and alike[key.casefold()] == 1 else _told_apart(key) for key in keys}


def _told_apart(key: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", key)[:48].lstrip(".") or "node"
    return f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


async def _sidecars(api: Gateway, run_id: str) -> AsyncIterator[Any]:
    seen = 0
    while True:
        page = await api.get(f"/runs/{run_id}/sidecars", limit=PAGE, offset=seen)
        for document in page["items"]:
            yield document
        seen += len(page["items"])
        if not page["items"] or seen >= page["total"]:
            return
