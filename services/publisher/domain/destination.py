"""What is asked for? A request's host and path name a site and a place in it, a shared link, or nothing of ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from uuid import UUID

from contracts.refs import SLUG_PATTERN
from services.publisher.domain.addresses import SHARE

Which = Literal["latest", "approved"] | int  # of a site's versions

LABEL = re.compile(r"^([a-z2-7]{32})(?:--(approved|v[1-9][0-9]{0,8}))?$")
SECRET = re.compile(r"^[a-z2-7]{32}$")
SLUG = re.compile(SLUG_PATTERN)
MARK = re.compile(r"^~(approved|v[1-9][0-9]{0,8})$")  # before the path: which version, where all have one host
LONGEST_NAME = 300  # characters of a host and a port, and more than any has
UNNAMED = re.compile(r"^(?:localhost|\[[0-9a-f:.]+\]|[0-9.]+)$")  # hosts that are the server itself


@dataclass(frozen=True, slots=True)
class OwnHost:
    """A site by its own host; one for each version that is not the latest."""

    label: str
    which: Which


@dataclass(frozen=True, slots=True)
class SharedHost:
    secret: str


@dataclass(frozen=True, slots=True)
class CommonHost:
    """The host that all sites have in common: which one is said by the path."""


@dataclass(frozen=True, slots=True)
class Place:
    """`rest` is the path within the site; None when even its first slash is missing."""

    company: str
    project: str
    task_id: UUID
    which: Which
    rest: str | None


def host(header: str, domain: str) -> OwnHost | SharedHost | CommonHost | None:
    """None is for a name below our domain that can belong to nothing, or one that is not ours."""
    return _host(header, domain) if len(header) <= LONGEST_NAME else None


@lru_cache(maxsize=4096)
def _host(header: str, domain: str) -> OwnHost | SharedHost | CommonHost | None:
    name = re.sub(r":\d*$", "", header.strip().lower()).rstrip(".")
    if name == domain or UNNAMED.fullmatch(name):
        return CommonHost()
    first, dot, rest = name.partition(".")
    if not dot or rest != domain:
        return None
    if found := LABEL.fullmatch(first):
        return OwnHost(found[1], _which(found[2]))
    secret = first.removeprefix(SHARE)
    return SharedHost(secret) if secret != first and SECRET.fullmatch(secret) else None


def place(path: str) -> Place | None:
    """`/{company}/{project}/{task}/`, then perhaps `~v3/` or `~approved/`, then the path in the site."""
    _, *segments = path.split("/", 4)
    if len(segments) < 3 or not all(SLUG.fullmatch(slug) for slug in segments[:2]):
        return None
    task_id = _uuid(segments[2])
    if task_id is None:
        return None
    rest = segments[3] if len(segments) == 4 else None
    mark, slash, behind = (rest or "").partition("/")
    if found := MARK.fullmatch(mark):
        return Place(segments[0], segments[1], task_id, _which(found[1]), behind if slash else None)
    return Place(segments[0], segments[1], task_id, "latest", rest)


def within(path: str, company: str, project: str, task_id: UUID) -> str | None:
    """The path in a site on its own host, where it lies at the top and at its task's address; None: a slash is missing."""
    own = _address(company, project, task_id)
    if path == own:
        return None
    return path[len(own) + 1 :] if path.startswith(f"{own}/") else path[1:]


@lru_cache(maxsize=4096)
def _address(company: str, project: str, task_id: UUID) -> str:
    return f"/{company}/{project}/{task_id}"


def _which(word: str | None) -> Which:
    if word is None:
        return "latest"
    return "approved" if word == "approved" else int(word[1:])


def _uuid(text: str) -> UUID | None:
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
