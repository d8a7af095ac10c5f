"""Who reviews what an author has written: another model than the author, or nobody."""

from __future__ import annotations

import re
from collections.abc import Sequence

RELEASE = re.compile(r"(?:-\d{4}-\d{2}-\d{2}|-\d{8}|-latest|:latest)$")
ADVICE = "set FEEDBACK_REVIEWER=provider/model, or name another model in LLM_FALLBACKS"


def choose(author: str | None, candidates: Sequence[str]) -> str | None:
    """The first candidate that is not the author. Names are provider/model."""
    return next((name for name in candidates if not is_same(name, author)), None)


def is_same(one: str, other: str | None) -> bool:
    """Releases of one model are the same author."""
    return other is not None and _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return RELEASE.sub("", name.strip().lower())
