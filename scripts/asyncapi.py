"""The bus as an AsyncAPI 3 document, generated from the catalogue."""

from __future__ import annotations

from typing import Any

from contracts import catalog
from contracts.envelope import HEADERS, Reply
from contracts.message import Message, Request

REF = "#/components/schemas/{model}"


class Schemas:
    """Collects the models' JSON Schemas under `components`."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def ref(self, model: Any) -> dict[str, str]:
        schema = model.model_json_schema(ref_template=REF)
        for name, definition in schema.pop("$defs", {}).items():
            self.found[name] = definition
        self.found[_name(model)] = schema
        return {"$ref": f"#/components/schemas/{_name(model)}"}


def _name(model: Any) -> str:
    return str(model.__name__).replace("[", "_").replace("]", "")


def _parameters(message: type[Message]) -> dict[str, Any]:
    return {
        "company": {"description": "the company's slug"},
        message.story: {"description": f"{message.story}: the story that the message belongs to"},
    }


def _address(message: type[Message]) -> str:
    return f"{message.kind}.{{company}}.{message.owner}.{message.entity}.{message.verb}.{{{message.story}}}"


def _summary(model: Any) -> str:
    return " ".join((model.__doc__ or "").split()) if "__doc__" in vars(model) else ""


def document() -> dict[str, Any]:
    schemas = Schemas()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for message in catalog.MESSAGES:
        name = message.type_name()
        channels[name] = {
            "address": _address(message),
            "parameters": _parameters(message),
            "messages": {name: _message(schemas.ref(message), _summary(message))},
        }
        operations[f"{name}.send"] = {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
    for request in catalog.REQUESTS:
        _add_request(request, schemas, channels, operations)
    headers = {"type": "object", "properties": {h: {"type": "string"} for h in [*HEADERS.values(), "Nats-Msg-Id"]}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fluidcrew's bus",
            "version": "1",
            "description": "Commands and facts are stored in JetStream; requests, live deltas and doorbells are not.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": dict(sorted(schemas.found.items())) | {"CloudEventsHeaders": headers},
            "messageTraits": {"cloudEvents": {"headers": {"$ref": "#/components/schemas/CloudEventsHeaders"}}},
        },
    }


def _message(payload: dict[str, str], summary: str) -> dict[str, Any]:
    body: dict[str, Any] = {"payload": payload, "traits": [{"$ref": "#/components/messageTraits/cloudEvents"}]}
    return body | ({"summary": summary} if summary else {})


def _add_request(
    request: type[Request[Any]], schemas: Schemas, channels: dict[str, Any], operations: dict[str, Any]
) -> None:
    name = f"rpc.{request.owner}.{request.entity}.{request.verb}"
    answer = {"allOf": [schemas.ref(Reply), {"properties": {"answer": schemas.ref(request.answer)}}]}
    channels[name] = {
        "address": request.subject(),
        "messages": {"request": _message(schemas.ref(request), _summary(request))},
    }
    channels[f"{name}.reply"] = {"address": None, "messages": {"reply": {"payload": answer}}}
    operations[name] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "reply": {"channel": {"$ref": f"#/channels/{name}.reply"}},
    }
