"""Which role does a call have, and may that role do it?"""

from __future__ import annotations

from enum import StrEnum

from contracts.errors import Code, Rejection

READING = frozenset({"GET", "HEAD", "OPTIONS"})
ASKS = "/knowledge/search"  # reads, though its question needs a body


class Role(StrEnum):
    VIEWER = "viewer"  # reads
    EDITOR = "editor"  # reads and writes
    ADMIN = "admin"  # also repairs: dead letters, keys

    @property
    def rank(self) -> int:
        return list(Role).index(self)


def effective(key_role: Role, asked: str | None) -> Role:
    """The lower of the key's role and the one asked for: `X-Role` can only give rights away."""
    if asked is None:
        return key_role
    try:
        wanted = Role(asked.strip().lower())
    except ValueError:
        raise Rejection(
            Code.BAD_REQUEST, f"X-Role must be one of {', '.join(Role)}, not {asked[:40]!r}", allowed=list(Role)
        ) from None
    return min(key_role, wanted, key=lambda role: role.rank)


def require(role: Role, least: Role) -> None:
    if role.rank < least.rank:
        raise Rejection(
            Code.FORBIDDEN, f"this needs the role {least}; the call has {role}", role=role.value, needed=least.value
        )


def needed_for(method: str, path: str, *, rbac: bool) -> Role:
    """Without FEATURE_RBAC whoever has a key may write, as in the predecessor."""
    reads = method in READING or path.endswith(ASKS)
    return Role.VIEWER if reads or not rbac else Role.EDITOR
