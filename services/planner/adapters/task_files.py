"""Reads task files: JSON documents in one directory of the server, named by whoever launches a run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contracts.errors import Code, Rejection
from contracts.plan import PlanGraph
from contracts.planner import TaskSpec

MAX_BYTES = 1024 * 1024


class TaskFiles:
    """Nothing outside the directory is ever read, whatever the name says and wherever links point."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def read(self, name: str) -> PlanGraph | TaskSpec:
        """A plan (a list of nodes, or an object with `plan`) or a task_spec. Raises Rejection."""
        if self._directory is None:
            raise _refused("task files are switched off on this server: set PLANNER_TASK_FILES_DIR, or send `task`")
        return understood(name, await asyncio.to_thread(_content, self._directory, name))


def _refused(message: str, code: Code = Code.INVALID) -> Rejection:
    return Rejection(code, message, errors=[f"task_file: {message}"])


def _content(directory: Path, name: str) -> bytes:
    root = directory.resolve()
    try:
        path = (root / name).resolve()
        if Path(name).is_absolute() or not path.is_relative_to(root):
            raise _refused(f"{name!r} leads out of the task files' directory; give a name inside it")
        if not path.is_file():
            raise _refused(f"there is no task file {name!r}", Code.NOT_FOUND)
        if path.stat().st_size > MAX_BYTES:
            raise _refused(f"task file {name!r} is larger than {MAX_BYTES} bytes", Code.TOO_LARGE)
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        why = error.strerror if isinstance(error, OSError) else "its links form a circle"
        raise _refused(f"task file {name!r} cannot be read: {why}") from error


def understood(name: str, content: bytes) -> PlanGraph | TaskSpec:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refused(f"task file {name!r} is not JSON: {error}") from error
    shape: type[PlanGraph | TaskSpec] = PlanGraph if _is_plan(document) else TaskSpec
    try:
        # via JSON again: lone surrogates, which Python's reader lets through, are refused here
        return shape.model_validate_json(json.dumps(document, ensure_ascii=True))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, p['loc'])) or 'document'}: {p['msg']}"
            for p in error.errors(include_url=False, include_input=False)
        ]
        message = f"task file {name!r} holds no {'plan' if shape is PlanGraph else 'plan or task_spec'}"
        raise Rejection(Code.INVALID, message, errors=problems) from error


def _is_plan(document: Any) -> bool:
    if isinstance(document, dict):
        return isinstance(document.get("plan"), list) or "nodes" in document
    return isinstance(document, list)
