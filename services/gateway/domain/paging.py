"""Where are the neighbours of a page, and in which order is it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

#: never repeated in a link: it would end up in logs and bookmarks
SECRET_PARAMETERS = frozenset({"api_key"})

Direction = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Relative URLs of the pages before and after, where there are any."""

    prev: str | None
    next: str | None

    @property
    def header(self) -> str:
        """The value of `Link` (RFC 8288); empty when there is no neighbour."""
        known = (("prev", self.prev), ("next", self.next))
        return ", ".join(f'<{url}>; rel="{rel}"' for rel, url in known if url)


def neighbours(path: str, query: Sequence[tuple[str, str]], *, limit: int, offset: int, total: int) -> Neighbours:
    kept = [(k, v) for k, v in query if k not in SECRET_PARAMETERS and k not in ("limit", "offset")]

    def at(start: int) -> str:
        return f"{path}?{urlencode([*kept, ('limit', str(limit)), ('offset', str(start))])}"

    return Neighbours(
        prev=at(max(0, offset - limit)) if offset > 0 else None,
        next=at(offset + limit) if offset + limit < total else None,
    )


def ordering(order_by: str | None, direction: Direction | None, default: str) -> str | None:
    """One signed field out of `order_by` and `order_dir`, which wins over a sign; None leaves it to the owner."""
    if order_by is None and direction is None:
        return None
    field = order_by or default
    if direction is None:
        return field
    return f"-{field.lstrip('-')}" if direction == "desc" else field.lstrip("-")
