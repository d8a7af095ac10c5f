"""Reads the JSON of a structured answer into the type that was asked for, cleaned, or says what is wrong with it."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from chassis.llm.call import ModelFailure
from chassis.llm.provider import OutputSchema
from chassis.llm.text import clean, clean_json

T = TypeVar("T", bound=BaseModel)

#: each line end is looked at once: blank lines inside are the JSON's, or models that repeat them would stop us for hours
FENCE = re.compile(r"\A\s*```(?:json)?[ \t\r]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)
MAX_PROBLEMS = 20


def schema_of(output: type[BaseModel]) -> OutputSchema:
    return OutputSchema(name=output.__name__, schema=output.model_json_schema())


def read(raw: str, output: type[T], who: str) -> T:
    """Raises ModelFailure(malformed) with the raw text and every problem, for the caller's repair round."""
    try:
        document = decode(raw)
    except (ValueError, RecursionError) as error:
        raise malformed(raw, (f"not valid JSON: {error}",), output, who) from error
    try:
        return output.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise malformed(raw, problems_of(error), output, who) from error


def decode(raw: str) -> Any:
    fenced = FENCE.match(raw)
    # strict=False: models put line breaks into strings
    return clean_json(json.loads(fenced[1] if fenced else raw, strict=False))


def problems_of(error: ValidationError) -> tuple[str, ...]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = tuple(clean(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}") for e in found[:MAX_PROBLEMS])
    return shown if len(found) <= MAX_PROBLEMS else (*shown, f"and {len(found) - MAX_PROBLEMS} more")


def malformed(raw: str, problems: tuple[str, ...], output: type[BaseModel], who: str) -> ModelFailure:
    message = f"{who} gave no valid {output.__name__}: {'; '.join(problems[:3])}"
    return ModelFailure("malformed", message, raw=clean(raw), problems=problems)
