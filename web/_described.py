"""What the OpenAPI document says of a request's route: what it takes is what is described."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request


def query_names(request: Request) -> list[str]:
    """The query parameters that the route of a request takes."""
    parameters = _operation(request).get("parameters", ())
    return sorted(each["name"] for each in parameters if each["in"] == "query")


def body_names(request: Request) -> list[str]:
    """The fields that its body may have."""
    content = _operation(request).get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    for each in (schema, *schema.get("anyOf", ())):
        if "$ref" in each:
            schemas = request.app.openapi()["components"]["schemas"]
            return sorted(schemas[each["$ref"].rpartition("/")[2]].get("properties", {}))
    return []


def _operation(request: Request) -> Mapping[str, Any]:
    path = getattr(request.scope.get("route"), "path", "")
    found: Mapping[str, Any] = request.app.openapi()["paths"].get(path, {})
    operation: Mapping[str, Any] = found.get(request.method.lower(), {})
    return operation
