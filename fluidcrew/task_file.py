"""What `fluidcrew run` sends: the file's content and the command line's wishes, brought into one request."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluidcrew.exits import Exit, Halt

SOURCES = ("task_spec", "task", "task_file")
LARGEST_BYTES = 1024 * 1024  # the server refuses larger bodies


def read_task_file(path: Path) -> Any:
    """Raises Halt with the place of the mistake."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise Halt(Exit.USAGE, f"cannot read {name} ({error.strerror}): correct the path after --file") from error
    except UnicodeDecodeError as error:
        raise Halt(Exit.USAGE, f"{name} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    if len(data) > LARGEST_BYTES:
        raise Halt(Exit.USAGE, f"{name} has {len(data):,} bytes and the API takes {LARGEST_BYTES:,}: shorten it")
    return parsed(text, name)


def parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Halt(Exit.USAGE, f"{name}:{error.lineno}:{error.colno}: this is no JSON ({error.msg})") from error
    except RecursionError as error:
        raise Halt(Exit.USAGE, f"{name} is nested too deeply: the API takes 32 levels") from error


def request_of(
    content: Any,
    *,
    title: str | None,
    description: str | None,
    use_supervisor: bool,
    gate: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The body of `POST /tasks`. The command line wins over the file."""
    body = _body_of(content)
    if title:
        body["title"] = title
    if not body.get("title"):
        raise Halt(Exit.USAGE, 'what is to be done? Give a title: fluidcrew run "Write a market study"')
    if description:
        body["description"] = description
    if gate:
        body["gate"] = str(gate)
    drafted = use_supervisor or content is None
    if not any(source in body for source in SOURCES):
        drafted, body["task_spec"] = True, {}
    wishes = {k: v for k, v in options.items() if v is not None} | ({"use_supervisor": True} if drafted else {})
    if wishes:
        given = body.get("options")
        body["options"] = (dict(given) if isinstance(given, Mapping) else {}) | wishes
    return body


def is_drafted(body: Mapping[str, Any]) -> bool:
    """Whether a model plans first, as far as can be seen here: what a task file of the server's holds cannot."""
    spec = body.get("task_spec")
    options = body.get("options")
    wanted = isinstance(options, Mapping) and bool(options.get("use_supervisor"))
    return wanted or (isinstance(spec, Mapping) and not spec.get("plan") and spec.get("type") is None)


def _body_of(content: Any) -> dict[str, Any]:
    """A list of nodes, a graph, a task_spec or a whole request: told apart by what they hold."""
    if content is None:
        return {}
    if isinstance(content, list):
        return {"task": content}
    if not isinstance(content, Mapping):
        raise Halt(
            Exit.USAGE,
            f"the file holds {_kind(content)}: it must hold a plan (list or graph), a task_spec or a request",
        )
    if any(source in content for source in SOURCES) or "title" in content:
        return _with_spec(dict(content))
    return {"task": dict(content)} if _is_graph(content) else {"task_spec": dict(content)}


def _with_spec(body: dict[str, Any]) -> dict[str, Any]:
    """A request; beside its title there may be a graph or the fields of a task_spec, as people write them."""
    if any(source in body for source in SOURCES):
        return body
    if _is_graph(body):
        graph = {k: body.pop(k) for k in ("version", "plan", "nodes", "edges") if k in body}
        return body | {"task": graph}
    spec = {k: body.pop(k) for k in ("type", "plan", "params", "acceptance") if k in body}
    return body | ({"task_spec": spec} if spec else {})


def _is_graph(content: Mapping[str, Any]) -> bool:
    return isinstance(content.get("plan"), list) or isinstance(content.get("nodes"), list)


def _kind(value: Any) -> str:
    return {str: "a text", int: "a number", float: "a number", bool: "true or false"}.get(type(value), "null")
