"""Which versions of a site may go? Those beyond the newest few, unless somebody still looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts.previews import PreviewState
from services.publisher.domain.states import FINAL


@dataclass(frozen=True, slots=True)
class Kept:
    """A version, and what speaks for keeping it."""

    id: UUID
    run_id: UUID | None
    version: int
    state: str
    latest: bool
    approved: bool
    shared: bool
    named: bool  # by what the newest run has delivered, or taken over from an earlier one
    size: int | None


def beyond(versions: Sequence[Kept], keep: int) -> Iterator[Kept]:
    """`versions` the newest first. Those that failed take no place of one that can be opened."""
    opened = 0
    for position, each in enumerate(versions):
        opened += each.state == PreviewState.READY
        place = opened if each.state == PreviewState.READY else position + 1
        if place > keep and not each.latest and not each.named and why_kept(each) is None:
            yield each


def ended(versions: Sequence[Kept]) -> Iterator[Kept]:
    """Those of a site whose task was deleted: nobody opens, pins or shares any of them again."""
    return (each for each in versions if each.state in FINAL)


def why_kept(version: Kept) -> str | None:
    """None when a person may remove it; retention spares the latest one as well, and what the newest run names."""
    if version.state not in FINAL:
        return "it is being published"
    if version.approved:
        return "it is pinned; unpin it first"
    if version.shared:
        return "it is shared by a link; revoke the link first"
    return None


def latest_of(versions: Sequence[Kept]) -> int | None:
    """What a site shows of these."""
    return max((each.version for each in versions if each.state == PreviewState.READY), default=None)
