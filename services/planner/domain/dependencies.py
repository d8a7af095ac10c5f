"""Would these dependencies make tasks wait for themselves?"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from contracts.errors import Code, Rejection

Needs = Mapping[UUID, Collection[UUID]]  # which tasks a task waits for

SHOWN = 20  # tasks of a cycle that a message names


def cycle(needs: Needs, task: UUID, added: Iterable[UUID]) -> list[UUID]:
    """The shortest one that the additions would close: each waits for the next, the last for the first. Empty if none."""
    came_from: dict[UUID, UUID] = {}
    ahead: deque[tuple[UUID, UUID]] = deque((task, dep) for dep in added)
    while ahead:
        waiting, needed = ahead.popleft()
        if needed == task:
            return _path(came_from, task, waiting)
        if needed not in came_from:
            came_from[needed] = waiting
            ahead.extend((needed, next_) for next_ in needs.get(needed, ()))
    return []


def _path(came_from: Mapping[UUID, UUID], task: UUID, last: UUID) -> list[UUID]:
    path = [last]
    while path[-1] != task:
        path.append(came_from[path[-1]])
    return path[::-1]


def refuse_cycle(needs: Needs, task: UUID, added: Iterable[UUID], titles: Mapping[UUID, str]) -> None:
    """Raises Rejection(cycle) that names it."""
    if found := cycle(needs, task, added):
        named = [repr(titles.get(id, str(id))) for id in (*found, found[0])]
        shown = named if len(named) <= SHOWN else [*named[: SHOWN - 1], "…", named[-1]]
        raise Rejection(
            Code.CYCLE, f"these tasks would wait for each other: {' → '.join(shown)}", cycle=[str(id) for id in found]
        )
