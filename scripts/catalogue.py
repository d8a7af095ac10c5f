"""docs/messages.md: every message with its subject, story and fields, generated from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contracts import catalog, streams
from contracts.message import Message, Request
from contracts.subjects import Kind

HEAD = """\
# Messages

Generated from `contracts/` by `make verify`'s generator; edit the contracts, not this page. The grammar of subjects is in
`contracts/subjects.py`, the envelope (CloudEvents attributes as headers) in `contracts/envelope.py`.
"""
TITLES = {Kind.COMMAND: "Commands", Kind.EVENT: "Facts", Kind.LIVE: "Live deltas (not stored)"}


def _fields(model: Any) -> str:
    names = (n if f.is_required() else f"{n}?" for n, f in model.model_fields.items() if n != "company")
    return ", ".join(names) or "–"


def _messages(kind: Kind) -> Iterator[str]:
    rows = [m for m in catalog.MESSAGES if m.kind is kind]
    if not rows:
        return
    yield f"\n## {TITLES[kind]}\n\n| subject | fields |\n| --- | --- |"
    for message in rows:
        yield f"| `{_subject(message)}` | {_fields(message)} |"


def _subject(message: type[Message]) -> str:
    return f"{message.kind}.<company>.{message.owner}.{message.entity}.{message.verb}.<{message.story}>"


def _requests() -> Iterator[str]:
    yield "\n## Requests\n\n| subject | fields | answer | patience |\n| --- | --- | --- | --- |"
    requests: list[type[Request[Any]]] = [*catalog.REQUESTS]
    for request in requests:
        answer = request.answer.__name__.replace("[", " of ").replace("]", "")
        yield f"| `{request.subject()}` | {_fields(request)} | {answer} | {request.patience:g} s |"
    names = ", ".join(f"`{r.entity}.{r.verb}`" for r in catalog.OWNER_REQUESTS["planner"].values())
    yield f"\nEvery owner answers {names} as well (`contracts/story.py`)."


def _streams() -> Iterator[str]:
    yield "\n## Streams and consumers\n\n| stream | subjects | refuses beyond | purged beyond |\n| --- | --- | --- | --- |"
    for s in streams.STREAMS:
        soft = f"{s.soft_bytes // streams.MIB} MiB or {s.soft_age // streams.DAY} days, once all have passed it"
        yield f"| {s.name} | `{', '.join(s.subjects)}` | {s.max_bytes // streams.MIB} MiB | {soft} |"
    yield "\n| consumer | stream | filter |\n| --- | --- | --- |"
    for c in streams.CONSUMERS:
        yield f"| {c.durable} | {c.stream} | {', '.join(f'`{f}`' for f in c.filter_subjects)} |"


def page() -> str:
    parts = [HEAD, *(line for kind in TITLES for line in _messages(kind)), *_requests(), *_streams()]
    return "\n".join(parts) + "\n"
