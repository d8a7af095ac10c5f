"""Spaces, documents, passages and citations, as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words

Found = Mapping[str, Any]
STATES = {"ready": "green", "failed": "red", "needs_ocr": "yellow", "embedding": "cyan", "parsing": "cyan"}
LONGEST = 600  # characters of a passage


def spaces_table(spaces: Iterable[Found]) -> Table:
    table = _table()
    table.add_column("space", overflow="fold", ratio=1)
    for name in ("of", "language"):
        table.add_column(name, no_wrap=True)
    for name in ("documents", "chunks"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("rights", overflow="fold", ratio=1)
    table.add_column("id", no_wrap=True)
    for each in spaces:
        of = f"{each['scope']} {each['scope_id']}" if each["scope_id"] else str(each["scope"])
        counts = f"{each['documents']:,}", f"{each['chunks']:,}{' (being made anew)' if each['reindexing'] else ''}"
        name = words.one_line(str(each["name"]), 80)
        if reason := each.get("waits_for"):
            name += f"\nwaits: {words.one_line(str(reason), 300)}"
        id = Text(words.short_id(each["id"]), "bright_black")
        table.add_row(name, words.one_line(of, 40), str(each["language"]), *counts, _rights(each["grants"]), id)
    return table


def _rights(grants: Iterable[Found]) -> str:
    """`* reads, agent:ada writes, not unit:sales reads`."""
    said = (f"{'not ' if each['deny'] else ''}{each['principal']} {each['right']}s" for each in grants)
    return words.one_line(", ".join(said) or "people only", 300)


def documents_table(documents: Iterable[Found], *, spaces: Mapping[str, str]) -> Table:
    """`spaces` by their ids, when the documents are of several."""
    table = _table()
    table.add_column("document", overflow="fold", ratio=2)
    if spaces:
        table.add_column("space", overflow="fold", ratio=1)
    for name in ("version", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("chunks", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("changed", "id"):
        table.add_column(name, no_wrap=True)
    table.add_column("what is wrong", overflow="fold", ratio=3)
    for each in documents:
        table.add_row(
            words.one_line(str(each["title"]), 80),
            *([words.one_line(spaces.get(each["space_id"], ""), 80)] if spaces else []),
            f"v{each['version']}",
            _state(each),
            f"{each['chunks']:,}",
            words.size(each["size"]),
            words.day_and_clock(moment(each["updated_at"])),
            Text(words.short_id(each["id"]), "bright_black"),
            words.one_line(str(each["error"] or each.get("waits_for") or ""), 300),
        )
    return table


def _state(document: Found) -> Text:
    state = str(document["state"])
    done = f" {document['progress']:.0%}" if state == "embedding" else ""
    return Text(f"{state}{done}", style=STATES.get(state, "bright_black"))


def document_line(document: Found) -> Text:
    """What became of it."""
    line = Text.assemble((words.one_line(str(document["title"]), 80), "bold"), " is ", _state(document))
    if document["state"] == "ready":
        pages = "" if document["pages"] is None else f", {words.count(document['pages'], 'page')}"
        line.append(f": version {document['version']}, {words.count(document['chunks'], 'chunk')}{pages}")
        if reason := document.get("waits_for"):
            line.append(f"; by words only: {words.one_line(str(reason), 300)}", style="yellow")
    elif document["error"]:
        line.append(f": {words.one_line(str(document['error']), 300)}")
    return line


def found_lines(n: int, item: Found) -> Iterator[Text]:
    yield Text.assemble((f"[{n}] ", "cyan"), (where(item), "bold"), (f"  {item['score']:.2f}", "bright_black"))
    yield Text(f"    {words.one_line(str(item['text']), LONGEST)}")


def where(item: Found) -> str:
    """`Handbook v2, page 3`."""
    document = item["document"]
    page = "" if item["page"] is None else f", page {item['page']}"
    return f"{words.one_line(str(document['title']), 80)} v{document['version']}{page}"


def receipt_line(found: Found) -> Text:
    receipt = found["receipt"]
    spaces = words.count(len(receipt["spaces"]), "space")
    how = f"searched ({receipt['path']}) in {receipt['took_ms']:.0f} ms"
    said = f"{words.count(receipt['chunks'], 'chunk')} in {spaces} {how}"
    removed = receipt["removed_by_acl"]
    line = Text(f"{said}; {removed:,} not for this agent" if removed else said, style="bright_black")
    if found["degraded"]:
        line.append(f"; by words only: {words.one_line(str(found['degraded']), 200)}", style="yellow")
    return line


def citation_lines(citations: Iterable[Found]) -> Iterator[Text]:
    """What results cite, each passage of a node once."""
    for each in citations:
        node = words.one_line(str(each["node_key"]), 40)
        yield Text.assemble("  ", (f"{node} [{each['n']}] ", "cyan"), where(each))


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
