"""reasons.md, lifecycle.md and formats.md: the closed list, the life of a request, what a body may hold."""

from collections.abc import Iterator, Mapping
from typing import Any

from doorward.ccs.doors.problem import STATUS
from doorward.ccs.engines.standard_formats import standard_formats
from doorward.ccs.rules.formats import Format
from doorward.ccs.rules.lifecycle import TABLE, State
from doorward.wire.reasons import SENTENCES, Reason
from tools.reference.pages import page, table


def reasons() -> str:
    """Every reason with its sentence for people."""
    rows = [[f"`{reason.value}`", SENTENCES[reason], str(STATUS[reason])] for reason in Reason]
    return page(
        "Reasons",
        "Why something was refused, failed, withheld or warned about: the closed list (F20). The API's\n"
        "problems, webhooks, the journal and the gateway's log all use these words. The status is that of a call\n"
        "that is refused for the reason.",
        table(["reason", "in words", "HTTP status"], rows),
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
    rows = list(field_rows(one.request))
    if rows:
        yield from table(["field", "type", "", ""], rows)
    else:
        yield "The body is empty."
    yield ""


def field_rows(schema: Mapping[str, Any], front: str = "") -> Iterator[list[str]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        need = "required" if name in required else ""
        yield [f"`{front}{name}`", type_of(field), need, field["description"]]
        yield from field_rows(field.get("items", {}), f"{front}{name}[].")


def type_of(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        items = field["items"]
        return f"list of {type_of(items) if 'enum' in items else items['type'] + 's'}"
    return str(field["type"])
