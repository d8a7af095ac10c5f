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

SCHEMES = {
    "ApiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "ApiKeyQuery": {"type": "apiKey", "in": "query", "name": "api_key", "description": "for EventSource"},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "taken over, echoed, and stored on events; made up when absent",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "Role": {
        "name": "X-Role",
        "in": "header",
        "description": "lowers the role of the key for this call",
        "schema": {"type": "string", "enum": list(Role)},
    },
}


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
    references = [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS]
    for path in made["paths"].values():
        for operation in path.values():
            given = [_header_once(p, components["parameters"]) for p in operation.get("parameters", [])]
            operation["parameters"] = [*given, *references]
            for status, response in operation["responses"].items():
                operation["responses"][status] = _refusal_once(status, response, components["responses"])
    return made


# What is the same everywhere is told once: the document is half as long.


def _header_once(parameter: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return _once(parameter["name"], parameter, "parameters", known) if parameter["in"] == "header" else parameter


def _refusal_once(status: str, response: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    is_refusal = list(response.get("content", {})) == [MEDIA_TYPE]
    return _once(f"Problem{status}", response, "responses", known) if is_refusal else response


def _once(name: str, part: dict[str, Any], kind: str, known: dict[str, Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"} if known.setdefault(name, part) == part else part
