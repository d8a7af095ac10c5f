"""Reads a prompt the way a model would skim it: language, title, role, criteria, and what came before."""

from __future__ import annotations

import hashlib
import random
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Language = Literal["en", "fr"]
LABEL = "[simulated by the demo provider]"

HEADING = re.compile(
    r"^\s*(?:#{1,6}\s+(?P<title>.+?)\s*:?"
    r"|\**(?P<label>[^\W\d_][\w '\u2019/()-]{1,48}?)\**\s*:\**(?:\s+(?P<rest>.*))?)\s*$"
)
TITLES = re.compile(r"(?i)\b(?:title|task|step|node|goal|request|subject|titre|tâche|étape|objectif|demande|sujet)\b")
ROLES = re.compile(r"(?i)\b(?:role|rôle)\b")
CRITERIA = re.compile(r"(?i)\b(?:accept\w*|criteri\w+|done when|critères?)\b")
EARLIER = re.compile(
    r"(?i)\b(?:dep\w*|inputs?|results?|outputs?|earlier|previous|dépendances?|résultats?|précédent\w*)\b"
)
OTHER = re.compile(r"(?i)\b(?:instructions?|consignes?|notes?|context\w*|risks?|risques?|assumptions?|critique)\b")
ASKS = re.compile(r"(?i)\b(?:instructions?|consignes?|asks?)\b")
CITES = re.compile(r"(?i)\b(?:cite|citer|citez)\b")
OWED = re.compile(r"(?i)\b(?:deliverables?|livrables?)\b")
JSON = re.compile(r"\b(?:JSON|json)\b")
BULLET = re.compile(r"^\s*[-*•]\s+(?!\[)")
PLAIN = re.compile(r"^\s*(?![#>\[]|[-*•]\s)\S")
OPENS = re.compile(r"(?m)(?:^#+ (?P<title>[^\n]+)\n)?^<data(?P<mark>[^>\n]*)>\n")
CLOSES = re.compile(r"\n</data([^>\n]*)>")
POINT = re.compile(r"^\s*[-*•]\s+\*\*")
MARKER = re.compile(r"^\s*(?:(?:[-*•>]|\d+[.)])\s+(?:\[[ x]\]\s+)?|\*[^*\s][^*]*\*\s+)")  # or an emphasised lead
YOU_ARE = re.compile(
    r"(?i)(?:you are|act as|vous êtes|tu es)\s+(?:an?\s+|the\s+|une?\s+|le\s+|la\s+|l['\u2019])?([^.,;:\n]{3,60})",
)
FRENCH = re.compile(
    r"(?i)\b(?:le|la|les|des|du|une?|et|est|pour|dans|avec|sur|aux?|vous|qui|que|ce|cette|rapport|rédiger)\b|[àâçéèêîôûœ]",
)
ENGLISH = re.compile(r"(?i)\b(?:the|of|and|to|is|for|with|an?|on|in|that|this|write|report|how|what)\b")


@dataclass(frozen=True, slots=True)
class Brief:
    language: Language
    title: str
    role: str
    criteria: tuple[str, ...]
    earlier: tuple[str, ...]  # a line of each earlier result
    seed: int
    as_json: bool = False  # somebody asks for it in words
    owed: tuple[str, ...] = ()  # deliverables
    cites: bool = False  # somebody asks for citations

    def dice(self) -> random.Random:
        return random.Random(self.seed)

    def say(self, english: str, french: str) -> str:
        return french if self.language == "fr" else english


def read(system: str, user: str) -> Brief:
    fenced = list(_fences(user))
    said = _outside(user, fenced)
    parts = sections(said)
    title = _title(parts)
    criteria = next((_items(body) for label, body in parts if CRITERIA.search(label)), [])[:5]
    return Brief(
        language=language_of(" ".join((title, *criteria)), " ".join(body for _, body in parts)),
        title=title,
        role=_role(system, parts),
        criteria=tuple(criteria),
        earlier=tuple(_told(fenced) or _earlier(parts)),
        owed=tuple(next((_items(body) for label, body in parts if OWED.search(label)), [])[:10]),
        as_json=any(ASKS.search(label) and JSON.search(body) for label, body in parts),
        cites=CITES.search(said) is not None,
        seed=int.from_bytes(hashlib.sha256(f"{system}\0{user}".encode()).digest()[:8], "big"),
    )


def sections(text: str) -> list[tuple[str, str]]:
    """Markdown headings and `Label: text` lines split a prompt; what comes before the first has an empty label."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        match = HEADING.match(" ".join(line.split()))  # long blanks could be told apart in too many ways
        if match is not None and (match["title"] or _is_label(match["label"])):
            found.append((match["title"] or match["label"], [match["rest"] or ""]))
        else:
            found[-1][1].append(line)
    return [(label, "\n".join(lines).strip()) for label, lines in found]


def _is_label(text: str) -> bool:
    """ "Role: …" is one; "Draft the analysis of: …" is content."""
    known = (TITLES, ROLES, CRITERIA, EARLIER, OTHER)
    return len(text.split()) <= 4 and any(pattern.search(text) for pattern in known)


def language_of(*texts: str) -> Language:
    """Of the first text that tells; English when none does."""
    for text in texts:
        french, english = len(FRENCH.findall(text)), len(ENGLISH.findall(text))
        if french != english:
            return "fr" if french > english else "en"
    return "en"


def _title(parts: list[tuple[str, str]]) -> str:
    labelled = (body for label, body in parts if body and TITLES.search(label) and not EARLIER.search(label))
    anything = (body or label for label, body in parts if body or label)
    text = next(labelled, None) or next(anything, "") or "Untitled"
    return _one_line(text, 120)


def _role(system: str, parts: list[tuple[str, str]]) -> str:
    labelled = next((body for label, body in parts if body and ROLES.search(label)), "")
    named = YOU_ARE.search(system)
    return _one_line(labelled or (named[1] if named else ""), 60)


class _Fence(NamedTuple):
    """`start` to `stop` of a text, with the heading above."""

    start: int
    stop: int
    title: str
    text: str


def _fences(text: str) -> Iterator[_Fence]:
    """Each ends where its own mark is, if anywhere."""
    ends: dict[str, list[re.Match[str]]] = {}
    for end in CLOSES.finditer(text):
        ends.setdefault(end[1], []).append(end)
    at = 0
    while opened := OPENS.search(text, at):
        at, of_mark = opened.end(), ends.get(opened["mark"], [])
        if (place := bisect_left(of_mark, at, key=re.Match.start)) < len(of_mark):
            end = of_mark[place]
            yield _Fence(opened.start(), end.end(), opened["title"] or "", text[at : end.start()])
            at = end.end()


def _outside(text: str, fences: Sequence[_Fence]) -> str:
    starts = [0, *(each.stop for each in fences)]
    stops = [*(each.start for each in fences), len(text)]
    return "".join(text[start:stop] for start, stop in zip(starts, stops, strict=True))


def _told(fences: Iterable[_Fence]) -> list[str]:
    """Of each fenced result the name of its step, and the line that tells most."""
    found: list[str] = []
    for fence in fences:
        lines = fence.text.splitlines()
        tells = next((line for kind in (POINT, BULLET, PLAIN) for line in lines if kind.match(line)), "")
        name = fence.title.partition(": ")[2].partition(":")[0]
        found += [f"{_one_line(name, 60)}: {line}" if name else line for line in _items(tells)[:1]]
    return found[:4]


def _earlier(parts: list[tuple[str, str]]) -> list[str]:
    """One line of each section below a heading about earlier results; bullets tell more than openings."""
    found: list[str] = []
    inside = False
    for label, body in parts:
        inside = bool(EARLIER.search(label)) or (inside and not (TITLES.search(label) or CRITERIA.search(label)))
        if inside:
            found.append(next((line for line in body.splitlines() if BULLET.match(line)), body))
    bullets = [text for text in found if BULLET.match(text)]
    return [line for text in bullets or found for line in _items(text)[:1]][:4]


def _items(body: str) -> list[str]:
    lines = (MARKER.sub("", line).strip() for line in body.splitlines() if LABEL not in line)
    return [_one_line(line, 110) for line in lines if len(line) > 2]


def _one_line(text: str, limit: int) -> str:
    line = " ".join((text.strip().splitlines() or [""])[0].replace("**", "").split()).strip("*#` ")
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"
