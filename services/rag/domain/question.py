"""A question as the index understands it: its terms with what each is worth, and which of them lead to candidates."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from contracts.knowledge import Language
from services.rag.domain.analysis import place, stems

MOST_SPACES = 200  # beyond that it costs more to look for all of them than to look which one a chunk is of
LEADING = 4  # terms, the rarest, that always lead to candidates among many chunks
MOST_LED_TO = 10_000  # of many chunks, to which the others may lead
LITTLE = 3_000  # chunks, of which none is looked for: all are compared
FEW = 20_000  # chunks; more are many
MOST_OF_FEW_LED_TO = 4_000
OFTEN = 0.25  # of all chunks: what these have, such as the small words of another language, leads nowhere
MOST_TERMS = 200  # of a question


@dataclass(frozen=True, slots=True)
class Lexical:
    """`query` finds candidates, all are compared without it; `weights`, by place, say what each of their terms is worth."""

    query: str | None
    weights: Mapping[int, float]


def terms_of(question: str, languages: Iterable[Language]) -> dict[str, int]:
    """Stems and their places; in every language in which something may have been written."""
    found = dict.fromkeys(stem for language in sorted(languages) for stem in stems(question, language))
    return {stem: place(stem) for stem in list(found)[:MOST_TERMS]}


def all_places_of(question: str) -> set[int]:
    """Of its terms in whatever languages it may be asked."""
    return {place for language in Language for place in terms_of(question, [language]).values()}


def lexical(terms: Mapping[str, int], counts: Mapping[int, int], chunks: int, spaces: Sequence[str]) -> Lexical | None:
    """None when nothing that is searched has any of these terms. `counts` are of chunks that have a term, by its place."""
    known = sorted((counts[place], stem) for stem, place in terms.items() if counts.get(place, 0) > 0)
    if not known:
        return None
    weights = {terms[stem]: idf(count, chunks) for count, stem in known}
    query = _tsquery(_leading(known, chunks), spaces) if chunks > LITTLE else None
    return Lexical(query, dict(sorted(weights.items())))


def _leading(known: Sequence[tuple[int, str]], chunks: int) -> list[str]:
    """The rarest first. The others count where they are, and would lead to what has nothing else."""
    always, most = (LEADING, MOST_LED_TO) if chunks > FEW else (1, MOST_OF_FEW_LED_TO)
    leading, led_to = list[str](), 0
    for count, stem in known:
        if leading and (count > OFTEN * chunks or (len(leading) >= always and led_to + count > most)):
            break
        leading.append(stem)
        led_to += count
    return leading


def idf(count: int, of: int) -> float:
    return math.log(1 + (max(of - count, 0) + 0.5) / (count + 0.5))


def _tsquery(stems: Collection[str], spaces: Sequence[str]) -> str:
    any_stem = " | ".join(map(_quoted, stems))
    if not 0 < len(spaces) <= MOST_SPACES:
        return any_stem
    return f"({any_stem}) & ({' | '.join(map(_quoted, spaces))})"


def _quoted(lexeme: str) -> str:
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
