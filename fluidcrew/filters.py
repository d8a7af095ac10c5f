"""Which subjects `tail` listens to, from what people write: a whole filter, or `node.completed`, a company, a run."""

from __future__ import annotations

from contracts.subjects import BadSubject, Kind, story_filter
from fluidcrew.exits import Exit, Halt

STREAMS = {Kind.EVENT: "EVENTS", Kind.COMMAND: "COMMANDS", Kind.DEAD_LETTER: "DLQ"}


def facts_filter(subject: str, company: str, run: str) -> str:
    """Raises Halt when the parts do not make a filter."""
    if subject and subject.split(".", maxsplit=1)[0] in set(Kind):
        return _whole(subject, company, run)
    entity, _, verb = subject.partition(".")
    try:
        return story_filter(Kind.EVENT, company=company or "*", entity=entity or "*", verb=verb or "*", id=run or "*")
    except BadSubject as error:
        raise Halt(
            Exit.USAGE, f"{error}: give --subject node.completed, or a whole filter such as 'evt.*.executor.>'"
        ) from error


def _whole(subject: str, company: str, run: str) -> str:
    if company or run:
        raise Halt(
            Exit.USAGE,
            f"--subject {subject} is a whole filter: put company and run into it, or drop --company and --run",
        )
    tokens = subject.split(".")
    if not all(tokens) or ">" in tokens[:-1] or any(ch.isspace() for ch in subject):
        raise Halt(
            Exit.USAGE,
            f"--subject {subject} is no filter: * stands for one token, > for all the rest and only at the end",
        )
    return subject


def tokens_filter(company: str, run: str) -> str:
    return story_filter(Kind.LIVE, company=company or "*", owner="executor", entity="node", verb="token", id=run or "*")


def stream_of(subject: str) -> str | None:
    """None for what is not stored."""
    return STREAMS.get(Kind(subject.split(".", maxsplit=1)[0]))
