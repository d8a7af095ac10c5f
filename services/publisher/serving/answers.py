"""Answers: what goes back over HTTP, and those that say no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from services.publisher.domain.isolation import Headers
from services.publisher.serving import pages

UNCACHED = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it matters: bodies, cookies and credentials do not."""

    method: str
    path: str
    query: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        """Only of a GET: others have no parts (RFC 9110, 14.2)."""
        return self.headers.get("range") if self.method == "GET" else None

    @property
    def wants_page(self) -> bool:
        return "text/html" in self.headers.get("accept", "")


@dataclass(slots=True)
class Answer:
    """`size` in bytes is said also when there is no body, as to HEAD."""

    status: int
    headers: list[tuple[bytes, bytes]]
    size: int
    body: bytes = b""
    pieces: AsyncIterator[bytes] | None = field(default=None)


def refusal(asked: Asked, status: int, title: str, advice: str, *, again: int | None = None) -> Answer:
    """`again` in seconds: when to come back, which browsers do by themselves."""
    body = pages.page(title, advice) if asked.wants_page else pages.text(title, advice)
    kind = b"text/html; charset=utf-8" if asked.wants_page else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), UNCACHED, (b"x-content-type-options", b"nosniff")]
    headers += [(b"content-security-policy", pages.POLICY), (b"x-robots-tag", b"noindex, nofollow")]
    if again is not None:
        seconds = str(again).encode()
        headers += [(b"retry-after", seconds), (b"refresh", seconds)]  # in a sandbox a page's own `meta` is not heard
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"GET, HEAD"))
    return Answer(status, headers, len(body), body)


def moved(asked: Asked, common: Headers) -> Answer:
    """To the same with a slash behind it. One slash before it: two would be another host's address."""
    query = f"?{asked.query}" if asked.query else ""
    location = f"/{quote(asked.path.strip('/'))}/{query}"
    return Answer(308, [*common, (b"location", location.encode()), UNCACHED], 0)


def disposition(kind: str, name: str) -> bytes:
    """Under its own name, whatever letters it has."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode()
