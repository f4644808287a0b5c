"""Errors of the API, as they stand in an answer."""

from typing import Any

from graphql import GraphQLError


def refused(message: str, code: str, status: int, **more: Any) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code, "status_code": status, **more})
