"""What can code say of a result, without asking a model?

A failed `hard` check caps the score: whatever else is good, the result cannot be used. The others take points away; what
only hints at a fault takes less than would stop a node by itself under the threshold of 60.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.artifacts import Delivered
from contracts.executor import RunNode
from contracts.plan import Deliverable
from services.feedback.domain import deliverables, formats

HINT = 35  # points that a mere hint takes away at most
MEASURED = 0.6  # of the points that a measured shortfall lacks
LONGEST_REFUSAL = 1_000  # characters; what says more than that has done some work
OPENING = 250
CUT_OFF = re.compile(r"\bcut off\b")

WORK = r"(?:help|assist|comply|fulfil\w*|complete|continue|create|generate|write|provide|produce|do (?:that|this|it)|answer)"
REFUSAL = re.compile(
    rf"\b(?:i(?:'m| am) (?:sorry|afraid)\b.{{0,40}}\b(?:can(?:'t|not)|unable|won't|not able)"
    rf"|i (?:can(?:'t|not| not)|am unable to|am not able to|must decline to|won't|will not) (?:\w+ ){{0,2}}{WORK}"
    rf"|i'm (?:unable|not able) to {WORK}|as an ai\b.{{0,60}}\b(?:can(?:'t|not)|unable|not able)"
    r"|(?:je suis )?désolée?\b.{0,40}\bne (?:peux|puis)\b"
    r"|je ne (?:peux|puis) pas (?:\w+ ){0,2}(?:aider|répondre|fournir|faire)"
    r"|en tant qu'ia\b.{0,60}\bne peux|tut mir leid\b.{0,40}\bkann\b.{0,40}\bnicht|lo siento\b.{0,40}\bno puedo)",
    re.DOTALL,
)
WORD = re.compile(r"[^\W\d_]{4,}")
STEM = 5  # letters; "source" and "sources", "décision" and "décisions" are the same
COMMON = frozenset(
    WORD.findall("""
about after also answer because been before being both contain contains could does each every from have into less like more
most must only other over result results section sections shall should such text than that their them then there these they
this those through under very what when where which while will with within without work would your
aussi avec avoir cela cette chaque comme dans deux doit doivent elle entre être leur leurs mais même moins nous pour plus
sans sera sont sous texte tous tout toute toutes très vous""")
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that code has looked at. `penalty` are the points it costs; a hard one costs all beyond its score."""

    name: str
    score: int
    passed: bool
    reason: str
    hard: bool = False
    penalty: int = 0
    by_meaning: bool = False  # a model that has an opinion on the acceptance criteria knows better


@dataclass(frozen=True, slots=True)
class Checked:
    """`not_checked` names what is declared and could not be looked at: nothing is claimed of it."""

    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return any(found.name == EMPTY and not found.passed for found in self.findings)


EMPTY, REFUSED = "not empty", "no refusal"


def check(
    output: str | None,
    node: RunNode,
    warnings: Sequence[str] = (),
    *,
    whole: bool = True,
    delivered: Delivered | None = None,
    format: formats.Judgement | None = None,
) -> Checked:
    """`whole` is false when `output` is only the beginning: then nothing is said about what needs all of it; `delivered`
    is None when nobody can say what else the attempt has delivered, `format` when it is to be looked at here."""
    text = output or ""
    if _is_empty(text, node.params):
        return Checked((Finding(EMPTY, 0, False, "the answer is empty", hard=True),))
    found = [Finding(EMPTY, 100, True, "there is an answer"), _refusal(text)]
    open_questions = []
    if whole:
        found += [*_length(text, node.params), *_acceptance(text, node.acceptance)]
        format = format or formats.judgement(text, node.params)
        found += _format(format)
        if format.uncheckable is not None:
            open_questions.append(f"format: {format.uncheckable}")
    else:
        open_questions.append("format, length and criteria: not all of the result could be read")
    owes = deliverables.owed(node)
    if owes.items and delivered is None:
        names = _short(", ".join(map(deliverables.named, owes.items)))
        open_questions.append(f"deliverables {names}: what was delivered could not be asked for")
    elif delivered is not None:
        found += _deliverables(owes.items, node.key, delivered)
    if owes.unclear:
        open_questions.append(f"deliverables {_short(', '.join(owes.unclear))}: no path and no kind to look for")
    return Checked((*found, *_complete(warnings)), tuple(open_questions))


def _is_empty(text: str, params: Mapping[str, Any]) -> bool:
    """`[]` says something where a format is declared."""
    says_something = any(ch.isalnum() for ch in text)
    return not says_something and not (text.strip() and {"output_format", "output_schema"} & params.keys())


def _refusal(text: str) -> Finding:
    opening = re.sub(r"[*_#>`\s]+", " ", text[:OPENING]).replace("’", "'").casefold()
    if len(text) <= LONGEST_REFUSAL and REFUSAL.search(opening):
        return Finding(REFUSED, 5, False, "the answer declines to do the work", hard=True)
    return Finding(REFUSED, 100, True, "the answer does not decline the work")


def _format(found: formats.Judgement) -> Iterator[Finding]:
    if found.name is None:
        return
    if found.problem:
        yield Finding("format", 10, False, f"the result {found.problem}", hard=True)
    else:
        fits = " and fits its schema" if found.has_schema else ""
        yield Finding("format", 100, True, f"the result is valid {found.name}{fits}")


def _deliverables(items: Sequence[Deliverable], key: str, delivered: Delivered) -> Iterator[Finding]:
    for item, lack in deliverables.lacking(items, key, delivered):
        name = f"deliverable {deliverables.named(item)}"
        if lack is None:
            yield Finding(name, 100, True, "it was delivered")
        else:
            yield Finding(name, 10, False, lack, hard=True)


def _length(text: str, params: Mapping[str, Any]) -> Iterator[Finding]:
    measures = {"words": len(text.split()), "length": len(text)}
    for what, value in measures.items():
        least, most = _count(params.get(f"min_{what}")), _count(params.get(f"max_{what}"))
        if least is None and most is None:
            continue
        unit = "words" if what == "words" else "characters"
        score, said = 100, f"{value:,} {unit}"
        if least is not None and value < least:
            score, said = 100 * value // least, f"{said} of at least {least:,}"
        elif most is not None and value > most:
            score, said = 100 * most // value, f"{said}, at most {most:,} were asked for"
        yield Finding("length", score, score == 100, said, penalty=round(MEASURED * (100 - score)))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _acceptance(text: str, criteria: Sequence[str]) -> Iterator[Finding]:
    """Whether a criterion's own words turn up: a hint, no more."""
    stems = _stems(text)
    asked = [(criterion, wanted) for criterion in criteria if (wanted := _stems(criterion) - _stems_of(COMMON))]
    missed = [criterion for criterion, wanted in asked if len(wanted & stems) * 3 < len(wanted)]
    for criterion, _ in asked:
        if criterion in missed:
            penalty = round(HINT / len(asked))
            yield Finding(_short(criterion), 40, False, "hardly any of its words turn up", False, penalty, True)
        else:
            yield Finding(_short(criterion), 100, True, "its words turn up", by_meaning=True)


def _stems(text: str) -> frozenset[str]:
    return _stems_of(WORD.findall(text.casefold()))


def _stems_of(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:STEM] for word in words)


def _complete(warnings: Sequence[str]) -> Iterator[Finding]:
    if cut := next((warning for warning in warnings if CUT_OFF.search(warning)), None):
        yield Finding("complete", 40, False, cut[:200], penalty=HINT)


def _short(criterion: str) -> str:
    line = " ".join(criterion.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
