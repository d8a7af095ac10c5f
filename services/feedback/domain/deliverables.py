"""Has a node delivered what it owes? Files by their paths, or anything of a kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from contracts.artifacts import Delivered
from contracts.executor import RunNode
from contracts.plan import ArtifactKind, Deliverable

A_FILE = re.compile(r"\.[A-Za-z0-9]{1,8}$")
HOW = {
    ArtifactKind.PREVIEW: "write its pages with write_file, then call publish_preview",
    ArtifactKind.LINK: "call add_link",
}
WRITE = "write it with write_file"


class Owed(NamedTuple):
    """`unclear` are those of older plans that say in words what nobody can look for."""

    items: list[Deliverable]
    unclear: list[str]


def owed(node: RunNode) -> Owed:
    """As the node declares them, and as plans did in their params before there was a field for it."""
    given = node.params.get("deliverables") or []
    items, unclear = list(node.deliverables), list[str]()
    for each in given if isinstance(given, list) else [given]:
        found = _read(each)
        if found is None:
            unclear.append(_said(each))
        elif found not in items:
            items.append(found)
    return Owed(items, unclear)


def _read(item: Any) -> Deliverable | None:
    fields = item if isinstance(item, dict) else {"path": item}
    path, kind = fields.get("path") or fields.get("name"), fields.get("kind") or fields.get("type")
    if not isinstance(item, dict) and item in set(ArtifactKind):
        path, kind = None, item
    if isinstance(path, str) and not A_FILE.search(path):
        path = None
    try:
        return Deliverable(path=path, kind=kind if kind in set(ArtifactKind) else None)
    except ValidationError:
        return None


def _said(item: Any) -> str:
    named = item.get("name") or item.get("path") or "?" if isinstance(item, dict) else item
    return str(named)[:100]


def named(item: Deliverable) -> str:
    return " ".join(str(part) for part in (item.kind, item.path) if part)


def lacking(items: Sequence[Deliverable], key: str, delivered: Delivered) -> Iterator[tuple[Deliverable, str | None]]:
    """Each with what is wrong with it, None when nothing is. The result itself is a document, `<key>.md` or the like."""
    for item in items:
        is_file = item.path is not None and item.kind is not ArtifactKind.PREVIEW
        yield item, _lack_of_file(item, key, delivered) if is_file else _lack(item, delivered)


def _lack_of_file(item: Deliverable, key: str, delivered: Delivered) -> str | None:
    assert item.path is not None
    if item.path not in delivered.files:
        is_the_result = item.path.rpartition(".")[0] == key and item.kind in (None, ArtifactKind.DOCUMENT)
        return None if is_the_result else f"{item.path} was not delivered; {WRITE}"
    if not delivered.files[item.path]:
        return f"{item.path} is empty; {WRITE}"
    kind = delivered.kinds.get(item.path)
    if item.kind in (None, kind, ArtifactKind.FILE):
        return None
    return f"{item.path} is no {item.kind} but a {kind}; deliver one under a name that says so"


def _lack(item: Deliverable, delivered: Delivered) -> str | None:
    kind = item.kind
    if kind is ArtifactKind.DOCUMENT:
        return None
    if kind is ArtifactKind.PREVIEW:
        if delivered.preview is None:
            return f"no preview was delivered; {HOW[kind]}"
        if item.path not in (None, delivered.preview):
            return f"the preview opens with {delivered.preview}; call publish_preview with {item.path}"
        return f"the preview cannot be published: {delivered.preview_flaw}" if delivered.preview_flaw else None
    if kind is ArtifactKind.LINK:
        return None if delivered.links else f"no link was delivered; {HOW[kind]}"
    files = [path for path, size in delivered.files.items() if size]
    there = files if kind is ArtifactKind.FILE else [p for p in files if delivered.kinds.get(p) is kind]
    return None if there else f"no {kind} was delivered; {WRITE}"
