"""Who is asking, as it is compared with what spaces grant."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from contracts.knowledge import EVERYBODY, Grant, Right, Searcher

READ_BY_ALL = (Grant(principal=EVERYBODY, right=Right.READ),)


@dataclass(frozen=True, slots=True)
class Who:
    """`keys` are the principals it is. A person may all."""

    is_person: bool
    keys: tuple[str, ...]
    project: str | None
    agent: str | None

    @classmethod
    def of(cls, searcher: Searcher | None) -> Who:
        if searcher is None:
            return cls(is_person=True, keys=(), project=None, agent=None)
        named = [("agent", searcher.agent_id), ("role", searcher.role), *(("unit", unit) for unit in searcher.units)]
        keys = tuple(key_of(f"{kind}:{name}") for kind, name in named if name)
        return cls(is_person=False, keys=keys, project=searcher.project, agent=searcher.agent_id or None)


def key_of(principal: str) -> str:
    """Neither case counts nor how accents are composed: nobody shall slip by a denial in other letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", principal).casefold())
