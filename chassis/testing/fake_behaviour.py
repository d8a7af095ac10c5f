"""How the fake model server behaves for one request: scripted as a value, or spelled in the prompt as magic words.

slow:<s>  fail:<status>:<n>  retry-after:<v>  stall:<tokens>  drop:<tokens>  pace:<s>  tool:<name>:<json>
until-released  malformed:body  malformed:output  malformed:chunk  no-usage  cut
say:<text to the end of the line>  repeat:<n, how often it says it>
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Behaviour(BaseModel):
    """Defaults are those of a model in good health that echoes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = None  # may hold lone surrogates: it travels as JSON escapes
    output: Any = None  # the value of a structured answer; None: made from the schema
    raw_output: str | None = None  # the text of a structured answer, valid or not
    tool: tuple[str, dict[str, Any]] | None = None  # asked for once, when it is offered
    uses: tuple[tuple[str, dict[str, Any] | str], ...] = ()  # asked for whatever is offered and was told; OpenAI only
    status: int = 200
    message: str = "synthetic failure"
    code: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    raw_body: str | None = None  # instead of JSON
    bad_chunk: bool = False  # an event of the stream is no JSON
    error_event: bool = False  # the stream breaks off with an error object
    held: bool = False  # nothing is said before FakeOpenAI.release()
    first_token_s: float = 0
    token_s: float = 0
    stall_after: int | None = None  # tokens; then silence until the client hangs up
    drop_after: int | None = None  # tokens; then the connection breaks
    end_after: int | None = None  # tokens; then the body ends, without finish_reason
    usage: bool = True
    finish: str | None = None
    model: str | None = None


FAILURES = re.compile(r"\bfail:(\d{3}):(\d+)")
TOOL = re.compile(r"\btool:(\w+):(\{.*?\})")
FLAGS: dict[str, dict[str, Any]] = {
    "malformed:body": {"raw_body": "<html>not JSON</html>"},
    "malformed:output": {"raw_output": '{"broken": '},
    "malformed:chunk": {"bad_chunk": True},
    "no-usage": {"usage": False},
    "until-released": {"held": True},
}
VALUES = {
    "slow": ("first_token_s", float),
    "pace": ("token_s", float),
    "stall": ("stall_after", int),
    "drop": ("drop_after", int),
}


def spelled(prompt: str, earlier: int) -> Behaviour:
    """What the magic words of a prompt ask for; `earlier` counts the requests with this same prompt before."""
    found: dict[str, Any] = {}
    for word, fields in FLAGS.items():
        found |= fields if word in prompt else {}
    for word, (field, kind) in VALUES.items():
        if match := re.search(rf"\b{word}:([\d.]+)", prompt):
            found[field] = kind(match[1])
    if match := re.search(r"\bsay:(.+)", prompt):
        times = re.search(r"\brepeat:(\d+)", prompt)
        found["text"] = " ".join([match[1].strip()] * (int(times[1]) if times else 1))
    if match := TOOL.search(prompt):
        found["tool"] = (match[1], json.loads(match[2]))
    if re.search(r"\bcut\b", prompt):
        found["finish"] = "length"
    if (match := FAILURES.search(prompt)) and earlier < int(match[2]):
        after = re.search(r"\bretry-after:(\S+)", prompt)
        found |= {"status": int(match[1]), "headers": {"retry-after": after[1]} if after else {}}
    return Behaviour(**found)
