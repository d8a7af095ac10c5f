"""What the API says when it refuses, as a line that helps: its own words, with commands in the place of routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from fluidcrew.exits import Exit, Halt
from fluidcrew.fields import wrong_field
from fluidcrew.render.verdicts import verdict_words
from fluidcrew.render.words import person

ADVICE = {
    "run_active": "wait for its end (`fluidcrew show {run} --watch`), or `fluidcrew cancel {run}`",
    "paused": "`fluidcrew resume` or `fluidcrew reset` it first",
    "canceled": "`fluidcrew reset` it first",
    "waits_for_tasks": "`fluidcrew status` names them",
    "verdict_taken": "look at that verdict, then decide again",
}


def is_foreign(response: httpx.Response) -> bool:
    """Not in our words, and not a proxy's for a gateway that is away."""
    ours = "X-Request-ID" in response.headers or bool(_json(response))
    return not ours and response.status_code not in (502, 503, 504)


def refusal(response: httpx.Response, url: str) -> Halt:
    """Our own line for what every caller gets wrong at times, the server's words for the rest."""
    status, body = response.status_code, _json(response)
    said, more = detail_of(body)
    request_id = response.headers.get("X-Request-ID", "")
    if status == 401:
        return Halt(Exit.REFUSED, f"{url} refuses the key: set API_KEY to the one its gateway was started with")
    if status == 503:
        advice = "" if ": " in said else ": try again in a moment"  # what says what to do says it behind a colon
        return Halt(Exit.UNREACHABLE, f"{said or 'the API cannot answer right now'}{advice}")
    if status >= 500:
        return Halt(Exit.UNREACHABLE, f"the API failed ({status}, request {request_id or 'unknown'}): its log says why")
    if not body:
        return Halt(Exit.REFUSED, f"{response.request.method} {response.request.url} was refused ({status})")
    return Halt(Exit.REFUSED, advised(said or f"refused ({status})", body), (*more, *in_force(body)))


def in_force(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The verdict that came before ours, when it is the reason."""
    details = body.get("details")
    current = details.get("current") if isinstance(details, Mapping) else None
    return (f"in force is: {verdict_words(current)}",) if isinstance(current, Mapping) else ()


def advised(said: str, body: Mapping[str, Any]) -> str:
    """The server says what to do in its own terms, routes; here they are commands."""
    details = body.get("details")
    advice = ADVICE.get(str(body.get("code")), "")
    run_id = str(details.get("run_id") or "")[:8] if isinstance(details, Mapping) else ""
    return (
        f"{person(said.split('; ', maxsplit=1)[0])}: {advice.format(run=run_id or 'RUN')}" if advice else person(said)
    )


def detail_of(body: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """A problem as one line; several wrong fields as a line for each below it."""
    detail = body.get("detail")
    if isinstance(detail, str):
        return detail, ()
    lines = [wrong_field(error) for error in detail or [] if isinstance(error, Mapping)]
    if len(lines) == 1:
        return lines[0], ()
    return (f"{len(lines)} things are wrong with the request:" if lines else "", tuple(lines))


def _json(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}
