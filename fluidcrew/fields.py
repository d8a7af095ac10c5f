"""Wrong fields of a request, in the words of whoever wrote the file: where, what, and what it should have been called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

Place = Sequence[str | int]

# What people write in a node, and what it is called here.
MEANT = {
    "deps": ("depends", "depends_on", "dependson", "dependencies", "dependency", "needs", "requires", "after"),
    "id": ("key", "node_id"),
    "title": ("name", "label"),
    "instructions": ("prompt", "description", "text"),
    "suggested_agent_role": ("role", "agent", "agent_role"),
    "acceptance": ("criteria", "acceptance_criteria"),
    "kind": ("type",),
    "timeout_s": ("timeout",),
    "max_attempts": ("attempts", "retries", "max_retries"),
}


def wrong_field(error: Mapping[str, Any]) -> str:
    """One entry of a 422, as a line."""
    where = [part for part in error.get("loc", ()) if part not in ("body", "query", "path")]
    if where[:2] == ["task", "plan"]:  # the request wraps what the file holds
        where = where[1:]
    message = str(error.get("msg", "")).removeprefix("Value error, ")
    if error.get("type") == "extra_forbidden":
        message = _unknown(where)
    return f"{path(where)}: {message}" if where else message


def path(where: Place) -> str:
    out = ""
    for part in where:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def _unknown(where: Place) -> str:
    if not _is_in_node(where):
        return "there is no such field"
    from contracts.plan import PlanNode  # pydantic: only who made a mistake waits for it

    known, name = list(PlanNode.model_fields), str(where[-1]).casefold().replace("-", "_")
    meant = [field for field, names in MEANT.items() if name in names] or get_close_matches(name, known, 1, 0.75)
    return f"there is no such field; did you mean {meant[0]}?" if meant else f"a node has {', '.join(known)}"


def _is_in_node(where: Place) -> bool:
    return len(where) > 2 and isinstance(where[-2], int) and where[-3] in ("plan", "nodes")
