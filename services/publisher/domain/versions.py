"""Which version of a site is served, and what differs between two of them?"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.previews import ChangedFile

Files = Mapping[str, tuple[str, int]]  # path -> sha256, size


def latest_after(latest: int | None, ready: int) -> int:
    """A version that took longer than the next one does not bring the site back."""
    return ready if latest is None else max(latest, ready)


def compared(before: Files, after: Files) -> tuple[list[str], list[str], list[ChangedFile], int]:
    """What was added, removed and changed, by path, and how many files are the same."""
    both = before.keys() & after.keys()
    changed = [path for path in sorted(both) if before[path][0] != after[path][0]]
    return (
        sorted(after.keys() - both),
        sorted(before.keys() - both),
        [ChangedFile(path=path, before=before[path][1], after=after[path][1]) for path in changed],
        len(both) - len(changed),
    )
