import re
from typing import Any

import msgspec
import pytest

from inferno.server.openapi import document
from inferno.server.operation import Operation
from inferno.server.operations import operations

TABLE = operations()
DOCUMENT = msgspec.json.decode(msgspec.json.encode(document(TABLE, version="1.2.3")))


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for entry in value for found in references(entry)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for entry in value.values() for found in references(entry)]


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.documented_path][operation.method.lower()]
    return found


def test_it_is_an_openapi_3_1_document() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert DOCUMENT["info"]["title"]


@pytest.mark.parametrize("operation", TABLE, ids=lambda o: f"{o.method} {o.path}")
def test_every_operation_is_described(operation: Operation) -> None:
    shown = described(operation)
    assert shown["summary"] == operation.summary
    assert {"200", "default"} <= set(shown["responses"])
    names = [parameter["name"] for parameter in shown.get("parameters", [])]
    assert names == re.findall(r"{(\w+)}", operation.documented_path)
    if operation.request is not None:
        schema = shown["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{operation.request.__name__}"}
    assert ("security" in shown) is operation.public


def test_nothing_else_is_described() -> None:
    listed = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert listed == {(operation.method, operation.documented_path) for operation in TABLE}


def test_operation_ids_are_unique() -> None:
    ids = [described(operation)["operationId"] for operation in TABLE]
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert found
    for reference in found:
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_limits_of_fields_are_in_the_schemas() -> None:
    schema = DOCUMENT["components"]["schemas"]["InferenceRequest"]
    assert set(schema["required"]) == {"model", "prompt"}
    assert {"type": "number", "minimum": 0, "maximum": 2} in schema["properties"]["temperature"][
        "anyOf"
    ]
