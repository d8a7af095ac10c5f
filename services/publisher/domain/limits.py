"""May an attempt write another file? Not too many, not too much, and none that another one is in the way of."""

from __future__ import annotations

from collections.abc import Mapping

from services.publisher.domain.paths import clash

MOST_FILES = 200
MOST_BYTES = 25 * 2**20
MOST_LINKS = 50


def refusal(path: str, size: int, written: Mapping[str, int]) -> str | None:
    """Why not, and what to do; None when it may. `written` are the sizes of what there is, by path."""
    others = {other: of for other, of in written.items() if other != path}
    if len(others) >= MOST_FILES:
        return f"there are {len(others)} files already, and no more than {MOST_FILES} may be; put more into one file"
    if sum(others.values()) + size > MOST_BYTES:
        left = MOST_BYTES - sum(others.values())
        return f"{path} has {size:,} bytes, and {left:,} are left of {MOST_BYTES:,} for all files; write less"
    if found := clash([*others, path]):
        return f"{path} cannot lie beside {found[0]}: they differ in case only, or one is the folder of the other; rename it"
    return None
