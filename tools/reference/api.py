"""openapi.json and api.md: what third parties call."""

from collections.abc import Iterator, Mapping
from typing import Any

from doorward import __version__
from doorward.ccs.doors.api.app import Parts, build_rest
from doorward.ccs.doors.api.openapi import HOT, describe
from tools.reference.pages import json_page, page, table, words

METHODS = ("get", "post", "put", "delete")


def openapi() -> str:
    """The API as the CCS itself describes it at /openapi.json."""
    return json_page(description())


def api_page() -> str:
    """The API at a glance."""
    return page(
        "API",
        f"{description()['info']['description'].strip()}\n\n"
        "The whole of it, with every body and answer, is [openapi.json](openapi.json) (OpenAPI 3.1). A running\n"
        "CCS shows the same at `/docs`, with nothing from other sites. How to begin:\n"
        "[Be a third party](../howto/be-a-third-party.md).",
        list(endpoints()),
    )


def endpoints() -> Iterator[str]:
    """Yield a table for each group of endpoints."""
    groups: dict[str, list[list[str]]] = {}
    for path, item in description()["paths"].items():
        for method in METHODS:
            if operation := item.get(method):
                tag = operation.get("tags", ["running"])[0]
                groups.setdefault(tag, []).append(
                    [f"`{method.upper()} {path}`", said(path, method, operation), scope(operation)]
                )
    for tag, rows in sorted(groups.items()):
        yield from (f"## {tag.capitalize()}", "", *table(["call", "what it does", "scope"], rows), "")


def said(path: str, method: str, operation: Mapping[str, Any]) -> str:
    """Return what an operation does. FastAPI makes a description of the docstring, and a summary of a name."""
    if method in HOT.get(path, {}):
        return words(f"{operation['summary']}. {operation.get('description', '')}")
    return words(operation["description"])


def scope(operation: Mapping[str, Any]) -> str:
    """Return the scopes, any of which an operation needs."""
    wanted = [scope for one in operation.get("security", []) for scope in one.get("oauth2", [])]
    return ", ".join(f"`{one}`" for one in wanted)


def description() -> dict[str, Any]:
    """Return the API's description. The routes are built on nothing, for nothing is called."""
    none: Any = None
    parts = Parts(
        journey=none, reading=none, endpoints=none, desk=none, possession=none, attempts=none, meter=none,
        ready=none, site=none, systems=none, system_endpoints=none, css=none,
        issuer="", token_keys={}, webhook_keys={},
    )  # fmt: skip
    return describe(build_rest(parts), __version__)
