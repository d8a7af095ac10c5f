"""What the demo does with knowledge: a step that is asked for citations searches, and cites what it was told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.llm.call import Tool, ToolCall, ToolRound
from chassis.llm.demo.reading import Brief

SEARCH = "search_knowledge"
PASSAGE = re.compile(r"(?ms)^\[(\d+)\] ([^\n]+)\n(.+?)(?=^\[\d+\] |^=====|\Z)")
SENTENCE = re.compile(r"(?s)\s*+(?:#[^\n]*+\n\s*+)*+(.+?[.!?])(?:\s|$)")  # after its headings, which are read once
MOST = 3
LONGEST = 300  # characters of a sentence


@dataclass(frozen=True, slots=True)
class Source:
    n: int
    title: str
    sentence: str


def searches(brief: Brief, tools: Sequence[Tool]) -> tuple[ToolCall, ...]:
    is_offered = any(tool.name == SEARCH for tool in tools)
    if not (is_offered and brief.cites):
        return ()
    question = brief.title.partition(": ")[2] or brief.title
    return (ToolCall("demo-search", SEARCH, {"query": question}),)


def sources(rounds: Sequence[ToolRound]) -> tuple[Source, ...]:
    """Of the passages that the search told: the first ones, each with its first sentence."""
    told = (
        result for each in rounds for call, result in zip(each.calls, each.results, strict=True) if call.name == SEARCH
    )
    found = (match for text in told for match in PASSAGE.finditer(text))
    return tuple(source for match in found if (source := _source(match)) is not None)[:MOST]


def _source(match: re.Match[str]) -> Source | None:
    first = SENTENCE.match(match[3].strip())
    if first is None:
        return None
    return Source(int(match[1]), match[2].split(" · ")[0], " ".join(first[1].split())[:LONGEST])
