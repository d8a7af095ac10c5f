"""The LLM sidecar, version 1.0: one JSON document per model call. Its model, its JSON Schema, and what strict adds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

VERSION = "1.0"  # what is written; a later 1.x adds fields and changes none
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_PROMPT = 800  # characters; longer texts are truncated when written
PROVIDERS = ("openai", "anthropic", "ollama", "azure_openai", "other")
DEPRECATED = ("raw",)
CUT = "…"

UUID4 = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"
PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
RFC3339 = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$")


def _timestamp(text: str) -> str:
    if not RFC3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 time with zone, like 2024-05-21T10:00:00Z")
    datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
    return text


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 12.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Timestamp = Annotated[str, AfterValidator(_timestamp), Field(json_schema_extra={"format": "date-time"})]
Uuid4 = Annotated[str, StringConstraints(pattern=UUID4)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
PromptText = Annotated[str, StringConstraints(max_length=MAX_PROMPT)]


class Part(BaseModel):
    """Unknown fields are kept: a reader of 1.0 must be able to read 1.1."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class Tokens(Part):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count | None = None


class Price(Part):
    """`known` false: the price is not known, and `estimated` is 0 only because the format wants a number."""

    estimated: float = Field(ge=0, allow_inf_nan=False)
    known: bool | None = None


class Turn(Part):
    role: str
    content: Any


class Prompts(Part):
    system: PromptText
    user: PromptText | list[Turn]
    final: Any = None
    messages: Any = None


class Timestamps(Part):
    started_at: Timestamp
    ended_at: Timestamp


class Retry(Part):
    index: Count


class Tooling(Part):
    name: str
    version: str | None = None


class Mistake(Part):
    code: str
    message: str
    retriable: bool | None = None


class Sidecar(Part):
    """At least one of `model` and `model_used`."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["model"]}, {"required": ["model_used"]}]},
        protected_namespaces=(),
    )

    version: Annotated[str, StringConstraints(pattern=r"^1\.(0|[1-9][0-9]{0,3})$")]
    provider: Literal["openai", "anthropic", "ollama", "azure_openai", "other"]
    model: str | None = None
    model_used: str | None = None
    latency_ms: Count
    usage: Tokens
    cost: Price
    prompts: Prompts
    timestamps: Timestamps
    run_id: Uuid4
    node_id: Uuid4
    request_id: str | None = None
    inputs: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    retry: Retry | None = None
    tooling: list[Tooling] | None = None
    warnings: list[str] | None = None
    errors: list[Mistake] | None = None
    raw: Any = Field(default=None, deprecated=True)

    @model_validator(mode="after")
    def _has_a_model(self) -> Sidecar:
        if self.model is None and self.model_used is None:
            raise ValueError("one of model and model_used is required")
        return self


class Verdict(BaseModel):
    """What checking one document found; it is fine when there are no errors."""

    model_config = ConfigDict(frozen=True)

    errors: list[str]
    warnings: list[str]


def json_schema() -> dict[str, Any]:
    return {"$schema": SCHEMA_DIALECT, "$id": "urn:fluidcrew:llm-sidecar:1.0", **Sidecar.model_json_schema()}


def shortened(text: str, limit: int = MAX_PROMPT) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT


def check(document: Any, *, strict: bool = False) -> Verdict:
    """Each line begins with the JSON path it is about. Normally deprecated fields and a difference between model and
    model_used are warnings, and so is a minor version newer than ours; strict refuses them."""
    try:
        sidecar = Sidecar.model_validate(document)
    except ValidationError as error:
        return Verdict(errors=list(dict.fromkeys(_mistakes(error))), warnings=[])
    tolerated = _tolerated(sidecar, document)
    unknown = [f"{path}: unknown field" for path in _unknown(sidecar, "$")]
    return Verdict(errors=tolerated if strict else [], warnings=unknown if strict else [*tolerated, *unknown])


#: how pydantic tells the two kinds of `user` apart: no part of a path in the document
TEXT, TURNS = "constrained-str", "list[Turn]"


def _mistakes(error: ValidationError) -> Iterator[str]:
    for found in error.errors(include_url=False, include_context=False):
        place, message = found["loc"], found["msg"].removeprefix("Value error, ")
        if place[-1:] in ((TEXT,), (TURNS,)) and found["type"] in ("string_type", "list_type"):
            if isinstance(found["input"], str | list):
                continue  # the other kind was meant, and says what is wrong with it
            message = f"must be a text of at most {MAX_PROMPT} characters, or a list of {{role, content}}"
        elif found["type"] == "model_type":
            message = "must be a JSON object"
        elif found["type"] == "string_pattern_mismatch":
            message = f"must be {VERSION}, or a later 1.x" if place == ("version",) else "must be a UUID of version 4"
        yield f"{json_path(part for part in place if part not in (TEXT, TURNS))}: {message}"


def json_path(place: Iterable[str | int]) -> str:
    return "$" + "".join(_step(part) for part in place)


def _step(part: str | int) -> str:
    if isinstance(part, str) and PLAIN.match(part):
        return f".{part}"
    return f"[{json.dumps(part)}]"


def _tolerated(sidecar: Sidecar, document: Mapping[str, Any]) -> list[str]:
    found = [f"{json_path([name])}: deprecated" for name in DEPRECATED if name in document]
    if sidecar.version != VERSION:
        found.append(f"$.version: {sidecar.version} is newer than {VERSION}; it is read as {VERSION}")
    if sidecar.model is not None and sidecar.model_used is not None and sidecar.model != sidecar.model_used:
        found.append(f"$.model_used: {sidecar.model_used!r} differs from model {sidecar.model!r}")
    return found


def _unknown(part: Part, path: str) -> list[str]:
    found = [f"{path}{_step(name)}" for name in part.model_extra or ()]
    for name, value in vars(part).items():
        if isinstance(value, Part):
            found += _unknown(value, f"{path}.{name}")
        elif isinstance(value, list) and name not in DEPRECATED:
            for index, item in enumerate(value):
                found += _unknown(item, f"{path}.{name}[{index}]") if isinstance(item, Part) else []
    return found
