"""The OpenAPI document: what FastAPI derives from the routes, plus what the middleware does to every one of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.gateway.domain.roles import Role
from services.gateway.problems import Problem

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
    components["parameters"] = PARAMETERS
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components.setdefault("schemas", {}).update(schema.pop("$defs", {}), Problem=schema)
    made["security"] = [{name: []} for name in SCHEMES]
    references = [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS]
    for path in made["paths"].values():
        for operation in path.values():
            operation["parameters"] = [*operation.get("parameters", []), *references]
    return made
