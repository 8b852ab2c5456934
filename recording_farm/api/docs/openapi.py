"""The OpenAPI document, made from the operations and from the models that validate and serialize."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, Literal

from pydantic import BaseModel, TypeAdapter

from recording_farm.api.docs.fields import BODIES, DESCRIPTIONS, example_of
from recording_farm.api.docs.webhook_examples import transfer_examples, webhook_examples
from recording_farm.api.error_responses import ErrorAnswer
from recording_farm.api.operations import ACCOUNT_OR_APP, DIALECTS, DYTE, JSON, REALTIMEKIT, ROOT, Operation
from recording_farm.api.schema.requests import MeetingId
from recording_farm.api.schema.responses import Paging
from recording_farm.farm.recording.transfers import TransferEvent
from recording_farm.farm.storage.targets import PresetName
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, TRANSFER_UPDATE

_Json = dict[str, Any]

_DESCRIPTION: Final = (
    "Records web meetings. This is the recording API of Dyte (v2) and of Cloudflare RealtimeKit: the same "
    f"operations are at `{DYTE}` and at `{REALTIMEKIT}`."
)

_ID_PREFIXES: Final = {ROOT: "", DYTE: "", REALTIMEKIT: "realtimekit_"}
"""The prefix of operation ids in each dialect; ids are unique in the document."""

_CLOUDFLARE: Final = "/client/v4"
"""The path of the base URL of Cloudflare's clients."""

_WITH_CREDENTIALS: Final = (401, 403, 429, 503)
"""The failures of every operation that needs credentials."""

_PATH_PARAMETERS: Final[dict[str, tuple[str, _Json]]] = {
    "account_id": ("any; the key says whose organization it is", {"pattern": ACCOUNT_OR_APP}),
    "app_id": ("any; the key says whose organization it is", {"pattern": ACCOUNT_OR_APP}),
    "recording_id": ("the recording", {"format": "uuid"}),
    "meeting_id": ("the meeting", TypeAdapter[str](MeetingId).json_schema()),
    "preset_name": ("the name of the preset", TypeAdapter[str](PresetName).json_schema()),
    "name": ("the name of the file", {"minLength": 1}),
}
"""The description of each path parameter, and its schema in addition to its type, string."""

_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "seconds after which to try again",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_ERROR_HEADERS: Final[dict[int, _Json]] = {
    401: {"WWW-Authenticate": {"description": "the ways to authenticate", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
"""Headers of errors that programs read."""

_SECURITY_SCHEMES: Final = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "the organization as user, its API key as password",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "the API key; for recordings of a meeting also a token of its participant",
    },
}

_TRANSFER: Final = {
    "type": "object",
    "description": "The upload: `store` or the customer's storage, and what happened to it.",
    "required": ["target", "state", "attempts"],
    "properties": {
        "target": {"type": "string", "description": "as in `transfers` of the recording"},
        "state": {"enum": list(TransferEvent), "description": "FAILING: it is retried at `nextAttempt`"},
        "attempts": {"type": "integer", "description": "attempts so far"},
        "nextAttempt": {"type": "string", "format": "date-time", "description": "when it is retried"},
        "error": {"type": "object", "description": "why the last attempt failed: `code` and `message`"},
        "location": {"type": "string", "description": "where the main file is"},
    },
}

_Mode = Literal["validation", "serialization"]


def openapi_document(operations: Sequence[Operation]) -> _Json:
    """The OpenAPI 3.1 document of operations in all their dialects, as plain JSON values."""
    schemas = _Schemas.of(operations)
    paths: dict[str, _Json] = {}
    for dialect in (*DIALECTS, ROOT):
        for operation in operations:
            if dialect in operation.dialects:
                path = re.sub(r":\w+}", "}", dialect + operation.path)
                paths.setdefault(path, {})[operation.method.lower()] = _operation(
                    operation, dialect, path, schemas
                )
    document = {
        "openapi": "3.1.1",
        "info": {
            "title": "Recording Farm",
            "version": version("recording-farm"),
            "description": _DESCRIPTION,
        },
        "paths": paths,
        "webhooks": {
            STATUS_UPDATE: {
                "post": _webhook(
                    STATUS_UPDATE,
                    "recording_status_update",
                    "The state of a recording has changed",
                    webhook_examples(),
                )
            },
            TRANSFER_UPDATE: {
                "post": _webhook(
                    TRANSFER_UPDATE,
                    "recording_transfer_update",
                    "An upload of a recording keeps failing, is done, or was given up",
                    transfer_examples(),
                    transfer=_TRANSFER,
                )
            },
        },
        "components": {"schemas": schemas.shared(operations), "securitySchemes": _SECURITY_SCHEMES},
    }
    # Imported here: it takes a fifth of the API's start, and few clients read the document.
    from openapi_pydantic import OpenAPI

    checked: _Json = OpenAPI.model_validate(document).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    return checked


def with_servers(document: _Json, base_url: str) -> _Json:
    """A document with the API's address, `base_url`."""
    about = f"Dyte's clients have {base_url}{DYTE} as their base, Cloudflare's {base_url}{_CLOUDFLARE}"
    servers = [{"url": base_url, "description": about}]
    head = {name: value for name, value in document.items() if name in ("openapi", "info")}
    return {**head, "servers": servers, **document}


@dataclass(frozen=True)
class _Schemas:
    """The JSON Schemas of all models: each either whole or a reference to one of the `components`."""

    by_model: dict[tuple[str, _Mode], dict[str, Any]]
    components: dict[str, Any]

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> "_Schemas":
        models: dict[tuple[str, _Mode], Any] = {}
        for operation in operations:
            for sent in (operation.body, operation.query, operation.headers):
                if sent is not None:
                    models[repr(sent), "validation"] = sent
            if operation.answer is not None:
                models[repr(operation.answer), "serialization"] = operation.answer
        for answer in (ErrorAnswer, Paging):
            models[repr(answer), "serialization"] = answer
        by_model, definitions = TypeAdapter.json_schemas(
            [(name, mode, TypeAdapter(model)) for (name, mode), model in models.items()],
            ref_template="#/components/schemas/{model}",
        )
        return cls(by_model, definitions["$defs"])

    def shared(self, operations: Iterable[Operation]) -> _Json:
        """The components without those that are only taken apart into parameters."""
        parts = [model for operation in operations for model in (operation.query, operation.headers) if model]
        names = {self._name(model) for model in parts}
        return {
            name: _described(_without_defaults(schema))
            for name, schema in self.components.items()
            if name not in names
        }

    def _name(self, model: Any) -> str:
        reference: str = self.get(model, "validation")["$ref"]
        return reference.rpartition("/")[2]

    def get(self, model: Any, mode: _Mode) -> _Json:
        schema: _Json = _without_defaults(self.by_model[repr(model), mode])
        return schema

    def fields(self, model: type[BaseModel]) -> Iterator[tuple[str, bool, _Json]]:
        """The fields of a model that is sent: name, whether it is required, schema."""
        whole = self.components[self._name(model)]
        for field, schema in whole.get("properties", {}).items():
            yield field, field in whole.get("required", ()), schema


def _described(schema: _Json) -> _Json:
    """A component whose fields all have a description, and an example if they are plain values."""
    schema.setdefault("description", "any JSON value")
    fields = schema.get("properties", {})
    for name, field in fields.items():
        if "description" not in field and name in DESCRIPTIONS:
            field["description"] = DESCRIPTIONS[name]
        plain = next((each for each in field.get("anyOf", ()) if each != {"type": "null"}), field)
        example = example_of(name, plain)
        if example is not None and "examples" not in field:
            field["examples"] = [example]
    return schema


def _without_defaults(schema: Any) -> Any:
    """A schema with its defaults in words.

    `default` misleads client generators: some send each field that has one, which overrides the
    organization's defaults, others make these fields required, and openapi-python-client leaves out
    operations with an object as default.
    """
    if isinstance(schema, list):
        return [_without_defaults(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _without_defaults(each) for name, each in schema.items() if name != "default"}
    default = schema.get("default")
    if isinstance(default, str | int | float) and "properties" not in schema:
        default_text = f"by default {json.dumps(default)}"
        about = kept.get("description")
        kept["description"] = f"{about}; {default_text}" if about else default_text
    return kept


def _operation(operation: Operation, dialect: str, path: str, schemas: _Schemas) -> _Json:
    described: _Json = {
        "operationId": _ID_PREFIXES[dialect] + operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            *_path_parameters(path),
            *_parameters(operation.query, "query", schemas),
            *_parameters(operation.headers, "header", schemas),
        ],
        "responses": _responses(operation, dialect, schemas),
        "security": [] if operation.public else [{name: []} for name in _SECURITY_SCHEMES],
    }
    if operation.body is not None:
        schema = schemas.get(operation.body, "validation")
        content = {"schema": schema, "example": BODIES[operation.body.__name__]}
        described["requestBody"] = {"required": True, "content": {JSON: content}}
    return described


def _webhook(event: str, name: str, summary: str, examples: _Json, **more: _Json) -> _Json:
    """The farm's requests to a webhook for an event; `more` are fields that no other event has."""
    about = "An object with `id`, `status` and more."
    schema = {
        "type": "object",
        "required": ["event", "recording", *more, "meeting"],
        "properties": {
            "event": {"const": event, "description": "the kind of event"},
            "recording": {
                "type": "object",
                "description": f"The recording. {about}",
                "required": ["id", "status"],
            },
            **more,
            "meeting": {"type": "object", "description": "The meeting of the recording.", "required": ["id"]},
        },
    }
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["webhooks"],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": schema,
                    "examples": {key: {"value": value} for key, value in examples.items()},
                }
            },
        },
        "responses": {"200": {"description": "Any 2xx: the receiver has accepted it."}},
    }


def _path_parameters(path: str) -> Iterator[_Json]:
    for name in re.findall(r"{(\w+)}", path):
        description, schema = _PATH_PARAMETERS.get(name, (name.replace("_", " "), {}))
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": {"type": "string", **schema},
        }


def _parameters(
    model: type[BaseModel] | None, location: Literal["query", "header"], schemas: _Schemas
) -> Iterator[_Json]:
    for name, required, field in schemas.fields(model) if model else ():
        schema = _without_null(field)
        if isinstance(schema.get("default"), list):
            del schema["default"]
        parameter = {"name": name, "in": location, "required": required}
        parameter["description"] = schema.pop("description", None) or DESCRIPTIONS[name]
        if schema.get("type") == "array":
            # As clients of Dyte write it; repeated parameters work too.
            parameter["explode"] = False
        yield {**parameter, "schema": schema}


def _without_null(schema: _Json) -> _Json:
    """The schema of a parameter, which is left out instead of null."""
    kept: _Json = {name: value for name, value in schema.items() if (name, value) != ("default", None)}
    options = [option for option in kept.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return kept
    del kept["anyOf"]
    return {**kept, **options[0]}


def _responses(operation: Operation, dialect: str, schemas: _Schemas) -> _Json:
    responses = {}
    if operation.status is not None:
        responses[str(operation.status)] = _success(operation, operation.status, schemas)
    failures = {
        *operation.errors,
        *(() if operation.public else _WITH_CREDENTIALS),
        # An invalid account or app.
        *((404,) if dialect == REALTIMEKIT else ()),
    }
    return responses | {str(status): _failure(status, schemas) for status in sorted(failures)}


def _success(operation: Operation, status: int, schemas: _Schemas) -> _Json:
    content: _Json = {}
    if operation.answer is not None:
        properties = {"success": {"const": True}, "data": schemas.get(operation.answer, "serialization")}
        if operation.paged:
            properties["paging"] = schemas.get(Paging, "serialization")
        content["schema"] = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "description": HTTPStatus(status).phrase,
        "content": dict.fromkeys(operation.media_types, content),
    }


def _failure(status: int, schemas: _Schemas) -> _Json:
    answer = {"schema": schemas.get(ErrorAnswer, "serialization")}
    failure = {"description": HTTPStatus(status).phrase, "content": {JSON: answer}}
    return failure | ({"headers": _ERROR_HEADERS[status]} if status in _ERROR_HEADERS else {})
