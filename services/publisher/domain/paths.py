"""What may a file of a deliverable be called, and which of many files make a site?

Nothing but the standard library: the worker that unpacks archives has nothing else. `contracts.plan.FilePath` is the same
rule for what comes by message.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

LONGEST_PATH, LONGEST_SEGMENT, DEEPEST = 300, 100, 20
STRANGE = re.compile(r"[^A-Za-z0-9._~@+()\[\],=$! -]")
DRIVE = re.compile(r"^[A-Za-z]:")
PAGE = re.compile(r"\.html?$", re.IGNORECASE)
INDEX = "index.html"
MOST_SHOWN = 5  # pages that a message names


class NoSite(Exception):
    """These files are none; the message says what they lack."""


class Site(NamedTuple):
    """`files` by the path they are served at; `entry` is one of these paths."""

    entry: str
    files: dict[str, str]


def flaw(path: str) -> str | None:
    """Why a file must not have this path, and what to do; None when it may."""
    if not path:
        return "has no name; give it one"
    if len(path) > LONGEST_PATH:
        return f"has a path of more than {LONGEST_PATH} characters; shorten it"
    if "\\" in path:
        return "has a backslash in its path; put / between folders"
    if path.startswith("/") or DRIVE.match(path):
        return "is an absolute path; make it relative to the top of the site"
    segments = path.split("/")
    if len(segments) > DEEPEST:
        return f"lies more than {DEEPEST} levels deep; move it up"
    return next((found for segment in segments if (found := _flaw_of(segment))), None)


def _flaw_of(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return f"has {segment!r} in its path, which may lead out of the site; use plain names"
    if strange := STRANGE.search(segment):
        allowed = "letters, digits, spaces and . _ ~ @ + - ( ) [ ] , = $ !"
        return f"has {strange[0]!a} in its path; rename it with {allowed}"
    if segment.startswith("."):
        return f"is hidden ({segment!r} begins with a dot); leave it out, or rename it"
    if segment.startswith(" "):
        return f"has a name that begins with a space ({segment!r}); rename it"
    if len(segment) > LONGEST_SEGMENT:
        return f"has a name of more than {LONGEST_SEGMENT} characters; shorten it"
    return None


def clash(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths that many file systems cannot keep apart: told apart by case only, or one the folder of the other.

    What `flaw` lets pass is ASCII, and so has only one Unicode form.
    """
    files: dict[str, str] = {}
    for path in paths:
        folded = path.casefold()
        if folded in files:
            return files[folded], path
        files[folded] = path
    return next(((files[f], path) for folded, path in files.items() for f in _folders(folded) if f in files), None)


def _folders(path: str) -> Iterator[str]:
    segments = path.split("/")
    return ("/".join(segments[:n]) for n in range(1, len(segments)))


def site(paths: Collection[str], entry: str | None) -> Site:
    """The site whose first page is `entry`, in the folder that all files share if it is not there as it was given.

    Its folder is the site; what lies outside is left out. Raises NoSite.
    """
    shared = _shared_folder(paths)
    first = next((p for p in (entry or INDEX, shared + (entry or INDEX)) if p in paths), None)
    if first is None or not PAGE.search(first):
        raise NoSite(_missing(paths, shared, entry, first))
    folder = first[: first.rfind("/") + 1]
    return Site(first[len(folder) :], {path[len(folder) :]: path for path in paths if path.startswith(folder)})


def _shared_folder(paths: Collection[str]) -> str:
    """With its slash; empty when there is none."""
    same = posixpath.commonprefix(list(paths))
    return same[: same.rfind("/") + 1]


def _missing(paths: Collection[str], shared: str, entry: str | None, first: str | None) -> str:
    if not paths:
        return "there are no files in it"
    if first is not None:
        return f"{first!r} is no HTML page; name the page that opens first as `entry`"
    pages = sorted((p for p in paths if PAGE.search(p)), key=lambda p: (p.count("/"), p))
    if not pages:
        return f"there is no HTML page in it; add {shared + INDEX!r}"
    named = ", ".join(repr(p) for p in pages[:MOST_SHOWN]) + (", …" if len(pages) > MOST_SHOWN else "")
    if entry is None:
        return (
            f"there is no {shared + INDEX!r}; add it, or name the page that opens first as `entry` (there are {named})"
        )
    return f"there is no {entry!r}; name a page as `entry` that is there ({named})"
