"""Which file of a site answers a path? Its own, a page of that name, or, for a page of the application, the first one."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass

from services.publisher.domain.paths import INDEX

EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,12}$")


@dataclass(frozen=True, slots=True)
class File:
    path: str


@dataclass(frozen=True, slots=True)
class Folder:
    """Its address lacks the slash without which its page's relative addresses lead elsewhere."""


def find(files: Container[str], entry: str, asked: str) -> File | Folder | None:
    """None: there is no such file, and what asks for one must not be given a page."""
    if not asked:
        return File(entry)
    if asked in files:
        return File(asked)
    bare = asked.rstrip("/")
    if f"{bare}/{INDEX}" in files:
        return File(f"{bare}/{INDEX}") if asked.endswith("/") else Folder()
    if f"{bare}.html" in files:
        return File(f"{bare}.html")
    return None if EXTENSION.search(bare.rsplit("/", 1)[-1]) else File(entry)
