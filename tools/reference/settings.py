"""settings.md: what may be set at the CCS, at a gateway and at the consent authority."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_settings import BaseSettings

from doorward.ccs.settings import CcsSettings
from doorward.consent.settings import ConsentSettings
from doorward.spg.settings import GatewaySettings
from tools.reference.pages import page, table, words

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_page() -> str:
    """Every setting of the three processes."""
    return page(
        "Settings",
        "Read once, when the process starts. Each is an environment variable; lists and tables are written as\n"
        "JSON there. The CCS also takes them from a TOML file (`doorward ccs --config ccs.toml`), named as in the\n"
        "first column; the environment beats the file. A wrong or unknown setting stops the start and is named.",
        [
            *one_table("The CCS", CcsSettings),
            "",
            *one_table("The gateway", GatewaySettings),
            "",
            *one_table("The consent authority", ConsentSettings),
        ],
    )


def one_table(title: str, settings: type[BaseSettings]) -> Iterator[str]:
    """Yield the table of one process."""
    prefix = settings.model_config["env_prefix"]
    fields = settings.model_json_schema()["properties"]
    yield from (f"## {title}", "", f"Environment: `{prefix}` and the name in capitals.", "")
    rows = [
        [f"`{name}`", kind(field), default(field), words(field["description"])]
        for name, field in fields.items()
    ]
    yield from table(["setting", "value", "default", "meaning"], rows)


def kind(field: Mapping[str, Any]) -> str:
    """Return the type and bounds of a setting, in words."""
    if "enum" in field:
        return " ".join(f"`{value}`" for value in field["enum"])
    types = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    word = str(types[0].get("format") if types[0].get("format") == "path" else types[0]["type"])
    word = {"array": "list", "object": "table", "string": "text"}.get(word, word)
    bounds = [f"{sign} {field[name]:g}" for name, sign in BOUNDS.items() if name in field]
    return " ".join([word, *bounds])


def default(field: Mapping[str, Any]) -> str:
    """Return the default as it is written in the environment."""
    value = field.get("default")
    if value in (None, "", [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
