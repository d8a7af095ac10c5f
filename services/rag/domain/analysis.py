"""What a text is found by: one analyser for what is indexed and for what is asked, in English and French.

Words are folded to lower case, stop words left out, the others stemmed and then stripped of accents, so that who types
none finds the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import Stemmer

from contracts.knowledge import Language

PLACES = 2**24  # of the vectors of weights; terms that share a place are rare enough not to matter
TITLE_WEIGHT = 3  # how often a title counts
K1, B = 1.2, 0.75  # of BM25
USUAL_LENGTH = 120.0  # terms of a chunk; fixed, so that no weight changes when others come and go
MOST_TERMS = 8_000  # different ones of a chunk: what a vector of weights can hold

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
ELISION = re.compile(r"^(?:l|d|j|m|t|s|n|c|qu|jusqu|lorsqu|puisqu|quoiqu|aujourd)['’]")
LONGEST_WORD = 80  # characters; what is longer is no word

FRENCH_STOP_WORDS = """
au aux avec ce ces cet cette dans de des du elle elles en et eux il ils je la le les leur leurs lui ma mais me meme
memes mes moi mon ne nos notre nous on ou par pas pour qu que qui quoi quel quelle quelles quels sa se ses son sur
ta te tes toi ton tu un une vos votre vous y a ai as avons avez ont est es suis sommes etes sont sera seront etait
etaient ete etre avoir c d j l m n s t si comme dont ceci cela ca comment quand pourquoi combien plus tres fait
faire peut puis
"""
ENGLISH_STOP_WORDS = """
a about an and are as at be been being but by can could did do does doing for from had has have having he her him
his how i if in into is it its me my no nor not of on or our she should so some such than that the their them then
there these they this those to too very was we were what when where which while who whom why will with would you
your
"""
STOP: Mapping[Language, frozenset[str]] = {
    Language.EN: frozenset(ENGLISH_STOP_WORDS.split()),
    Language.FR: frozenset(FRENCH_STOP_WORDS.split()),
}
ALGORITHM: Mapping[Language, str] = {Language.EN: "english", Language.FR: "french"}


@dataclass(frozen=True, slots=True)
class Indexed:
    """A chunk as search sees it. `weights` are of `terms`, in the same order, which is ascending."""

    folded: str
    lexemes: list[str]
    terms: list[int]
    weights: list[float]
    length: int


def fold(text: str) -> str:
    """In lower case and without accents."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text).casefold().replace("œ", "oe").replace("æ", "ae")
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))


def words(text: str) -> str:
    """Its words, folded, with one blank between them and around: what grams are cut from."""
    return f" {' '.join(WORD.findall(fold(text)))} "


def stems(text: str, language: Language) -> list[str]:
    stop, known = STOP[language], _stem_of
    plain = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    found = (part for word in WORD.findall(plain) for part in _parts(word, language))
    return [known(part, language) for part in found if fold(part) not in stop and len(part) <= LONGEST_WORD]


def _parts(word: str, language: Language) -> Iterable[str]:
    if language is Language.FR:
        word = ELISION.sub("", word)
    elif word.endswith("'s"):
        word = word[:-2]
    return filter(None, word.split("'"))


@lru_cache(maxsize=100_000)
def _stem_of(word: str, language: Language) -> str:
    stemmed = fold(_stemmer(language).stemWord(word))
    if language is Language.FR:  # what the accent had hidden from the stemmer
        stemmed = _stemmer(language).stemWord(stemmed)
    return stemmed or fold(word) or word


@lru_cache(maxsize=4)
def _stemmer(language: Language) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(ALGORITHM[language], 0)  # its own cache is ours already


def place(term: str) -> int:
    """Of a term in a vector of weights, from 1."""
    return crc32(term.encode()) % PLACES + 1


def analyse(body: str, header: str | None, title: str, language: Language) -> Indexed:
    """Title and headings are found as well, wherever the chunk lies in its document."""
    counted = Counter(stems(body, language))
    counted.update(stems(header or "", language))
    for stem in stems(title, language):
        counted[stem] += TITLE_WEIGHT
    kept = dict(counted.most_common(MOST_TERMS)) if len(counted) > MOST_TERMS else counted
    length = sum(kept.values())
    weights = _weights(kept, length)
    return Indexed(
        folded=words(f"{title} {header or ''} {body}"),
        lexemes=sorted(kept),
        terms=list(weights),
        weights=list(weights.values()),
        length=length,
    )


def _weights(counted: Mapping[str, int], length: int) -> dict[int, float]:
    """BM25's share of the chunk: how often a term is in it, saturated and against its length. The rest is the question's."""
    spread = K1 * (1 - B + B * length / USUAL_LENGTH)
    by_place: dict[int, int] = {}
    for term, count in counted.items():
        by_place[place(term)] = by_place.get(place(term), 0) + count
    return {where: count * (K1 + 1) / (count + spread) for where, count in sorted(by_place.items())}
