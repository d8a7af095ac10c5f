"""What a document's text looks like once it is read: characters, where headings are, where pages begin."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple


class Heading(NamedTuple):
    """`start` to `stop` is its line in the text; `level` counts from 1."""

    start: int
    stop: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """`pages` holds where each begins, in characters of the text; empty when the document has none."""

    text: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()

    def page_at(self, offset: int) -> int | None:
        return bisect_right(self.pages, offset) or None if self.pages else None

    def as_json(self) -> bytes:
        said = {"text": self.text, "headings": [list(one) for one in self.headings], "pages": list(self.pages)}
        return json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")

    @classmethod
    def of_json(cls, data: bytes) -> Parsed:
        said = json.loads(data)
        return cls(said["text"], tuple(Heading(*one) for one in said["headings"]), tuple(said["pages"]))
