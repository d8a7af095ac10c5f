"""The OpenAPI document: what FastAPI derives from the routes, plus what the middleware does to every one of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.gateway.domain.roles import Role
from services.gateway.problems import MEDIA_TYPE, Problem

DESCRIPTION = """\
Run a company of AI agents: tasks become plans, plans become runs, agents execute their nodes.

Refusals are `application/problem+json` with FastAPI's `detail` beside the members of RFC 9457. Times are UTC (RFC 3339)
unless `X-Timezone` asks for another zone. Every answer carries `X-Request-ID`."""

KEY_IN_URL = (
    "where no header can be set, such as EventSource or a link; works on every route. It is taken out of the URL before"
    " anything is logged here, but not by proxies on the way"
)
SCHEMES = {
    "ApiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "ApiKeyQuery": {"type": "apiKey", "in": "query", "name": "api_key", "description": KEY_IN_URL},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "taken over, echoed, and stored on events; made up when absent",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "NeededRequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "needed here, and of your own; echoed, and stored with what is written",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "Role": {
        "name": "X-Role",
        "in": "header",
        "description": "lowers the role of the key for this call",
        "schema": {"type": "string", "enum": list(Role)},
    },
}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/parameters/{name}"}


EVERYWHERE = [_reference("RequestId"), _reference("Role")]


def document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        separate_input_output_schemas=False,
    )
    components = made.setdefault("components", {})
    components["securitySchemes"] = SCHEMES
    components["parameters"], components["responses"] = dict(PARAMETERS), {}
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components.setdefault("schemas", {}).update(schema.pop("$defs", {}), Problem=schema)
    made["security"] = [{name: []} for name in SCHEMES]
    for path in made["paths"].values():
        for operation in path.values():
            given = [_header_once(p, components["parameters"]) for p in operation.get("parameters", [])]
            operation["parameters"] = [*given, *(each for each in EVERYWHERE if not _needed(each, given))]
            for status, response in operation["responses"].items():
                operation["responses"][status] = _refusal_once(status, response, components["responses"])
    return made


def _needed(reference: dict[str, Any], given: list[dict[str, Any]]) -> bool:
    """An operation that cannot do without a request id says so itself."""
    return reference == _reference("RequestId") and _reference("NeededRequestId") in given


# What is the same everywhere is told once: the document is half as long.


def _header_once(parameter: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    is_header = parameter.get("in") == "header"
    return _once(parameter["name"], parameter, "parameters", known) if is_header else parameter


def _refusal_once(status: str, response: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    is_refusal = list(response.get("content", {})) == [MEDIA_TYPE]
    return _once(f"Problem{status}", response, "responses", known) if is_refusal else response


def _once(name: str, part: dict[str, Any], kind: str, known: dict[str, Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"} if known.setdefault(name, part) == part else part
