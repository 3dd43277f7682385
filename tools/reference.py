"""Writes docs/reference from the code; with ``--check`` says what is stale instead.

make docs          writes
make docs-check    checks
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from doorward.ccs.engines.standard_formats import standard_formats
from doorward.ccs.rules.formats import Format
from doorward.ccs.rules.lifecycle import TABLE, State
from doorward.wire import messages
from doorward.wire.reasons import SENTENCES, Reason

PLACE = Path(__file__).parent.parent / "docs" / "reference"
MADE = "<!-- Made by `make docs`; do not edit. -->"
SCHEMA_PLACE = "#/components/schemas/{name}"


def reasons() -> str:
    """Every reason with its sentence for people."""
    rows = [f"| `{reason.value}` | {SENTENCES[reason]} |" for reason in Reason]
    return page(
        "Reasons",
        "Why something was refused, failed, withheld or warned about: the closed list (F20). The API's\n"
        "problems, webhooks, the journal and the gateway's log all use these words.",
        ["| reason | in words |", "|---|---|", *rows],
    )


def lifecycle() -> str:
    """The life of a request, drawn from its table."""
    moves = [f"    {at} --> {to}: {event.value}" for (at, event), to in TABLE.items()]
    ends = [f"    {state} --> [*]" for state in State if state.is_final]
    return page(
        "Life of a request",
        "Drawn from the table in `src/doorward/ccs/rules/lifecycle.py`. Final states never move; an\n"
        "`UNCONFIRMED` request may later be *settled* once (`DONE` or `NOT_DONE`), when proof arrives.\n"
        "`EXPIRED` and `CANCELLED` are said only of what was never sent, or when the gateway says so.",
        ["```mermaid", "stateDiagram-v2", "    [*] --> ACCEPTED", *moves, *ends, "```"],
    )


def message_formats() -> str:
    """The standard message formats."""
    parts = [line for one in standard_formats() for line in format_lines(one)]
    return page(
        "Message formats",
        "The standard set: what the `body` of a request may hold, by device class and operation. A request\n"
        "names one as `format` (`thermostat.setpoint/1`), or leaves it out and gets the newest active one.\n"
        "The files themselves are JSON Schemas (2020-12) in `src/doorward/ccs/formats`.",
        parts,
    )


def format_lines(one: Format) -> Iterator[str]:
    yield from (f"## {one.reference}", "", one.title + ". " + one.description, "")
    rows = list(field_rows(one.request, one.units))
    if rows:
        yield from ("| field | type | | |", "|---|---|---|---|", *rows)
    else:
        yield "The body is empty."
    yield ""


def field_rows(schema: Mapping[str, Any], units: Mapping[str, str], front: str = "") -> Iterator[str]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        need = "required" if name in required else ""
        yield f"| `{front}{name}` | {type_of(field)} | {need} | {field['description']} |"
        items = field.get("items", {})
        yield from field_rows(items, units, f"{front}{name}[].")


def type_of(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        items = field["items"]
        return f"list of {type_of(items) if 'enum' in items else items['type'] + 's'}"
    return str(field["type"])


def asyncapi() -> str:
    """What crosses the link, as AsyncAPI 3."""
    ways: dict[str, list[type[msgspec.Struct]]] = {
        "down": list(get_args(messages.Down)),
        "up": list(get_args(messages.Up)),
    }
    types = [one for way in ways.values() for one in way]
    refs, schemas = msgspec.json.schema_components(
        [drawable(one) for one in types], ref_template=SCHEMA_PLACE
    )
    payloads = dict(zip(types, refs, strict=True))
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Doorward's link between the CCS and gateways",
            "version": str(messages.WIRE_VERSION),
            "description": "A frame is 32 bytes of HMAC-SHA256 under the gateway's own key over the direction and "
            "the JSON text, then the JSON text. The direct link sends it as one binary WebSocket message, MQTT as "
            "one publish. Times are integer UTC microseconds, ids UUIDv7.",
        },
        "defaultContentType": "application/octet-stream",
        "channels": {way: channel(way) for way in ways},
        "operations": {
            "receiveDown": {"action": "receive", "channel": {"$ref": "#/channels/down"}},
            "sendUp": {"action": "send", "channel": {"$ref": "#/channels/up"}},
        },
        "components": {
            "messages": {
                way: {"summary": "One crossing.", "payload": frame(way, types)} for way, types in ways.items()
            },
            "schemas": {
                **schemas,
                **{one.__name__: {**schemas[one.__name__], "description": summary(one)} for one in payloads},
            },
        },
    }
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=2).decode() + "\n"


def drawable(one: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a twin of a message whose raw JSON defaults are values, for msgspec draws no others."""
    return msgspec.defstruct(
        one.__name__,
        [(field.name, field.type, plain_default(field)) for field in msgspec.structs.fields(one)],
        tag_field="type",
        tag=one.__struct_config__.tag,
        kw_only=True,
    )


def plain_default(field: msgspec.structs.FieldInfo) -> Any:
    if field.required:
        return msgspec.field()
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    if not isinstance(field.default, msgspec.Raw):
        return msgspec.field(default=field.default)
    value = msgspec.json.decode(field.default)
    return msgspec.field(default_factory=dict) if value == {} else msgspec.field(default=value)


def frame(way: str, types: list[type[msgspec.Struct]]) -> dict[str, object]:
    """Schema of the JSON text of a frame."""
    wanted = messages.FrameDown if way == "down" else messages.FrameUp
    fields: dict[str, object] = {"v": {"const": messages.WIRE_VERSION}, "gateway": {"type": "string"}}
    fields |= {name: {"type": "integer"} for name in ("epoch", "counter")}
    fields["messages"] = {
        "type": "array",
        "items": {"oneOf": [{"$ref": SCHEMA_PLACE.format(name=one.__name__)} for one in types]},
    }
    assert list(fields) == [field.name for field in msgspec.structs.fields(wanted)]
    return {"type": "object", "properties": fields, "required": list(fields)}


def channel(way: str) -> dict[str, object]:
    return {
        "address": f"doorward/v1/{{partition}}/{{gateway}}/{way}",
        "title": "CCS to gateway" if way == "down" else "gateway to CCS",
        "parameters": {
            "partition": {"description": "CRC-32 of the gateway's id, modulo 256."},
            "gateway": {"description": "The gateway's id, as in its certificate."},
        },
        "messages": {way: {"$ref": f"#/components/messages/{way}"}},
    }


def summary(one: type) -> str:
    return (one.__doc__ or "").strip().splitlines()[0].replace("``", "")


def page(title: str, lead: str, body: list[str]) -> str:
    return "\n".join([MADE, "", f"# {title}", "", lead, "", *body]).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "lifecycle.md": lifecycle,
    "reasons.md": reasons,
    "formats.md": message_formats,
    "asyncapi.json": asyncapi,
}
"""File in docs/reference → what makes it. Add a line here for a new page."""


def stale() -> list[str]:
    """Return the pages whose file is not what the code says now."""
    return [name for name, make in PAGES.items() if current(name) != make()]


def current(name: str) -> str:
    file = PLACE / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        for name in (old := stale()):
            print(f"docs/reference/{name} is stale; run 'make docs' and commit it")
        return 1 if old else 0
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (PLACE / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
