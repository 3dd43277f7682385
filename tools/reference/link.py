"""asyncapi.json: what crosses the link between the CCS and gateways, as AsyncAPI 3."""

from typing import Any, get_args

import msgspec

from doorward.wire import messages
from doorward.wire.chain import Head
from tools.reference.pages import json_page

SCHEMA_PLACE = "#/components/schemas/{name}"


def asyncapi() -> str:
    """What crosses the link, as AsyncAPI 3."""
    ways: dict[str, list[type[msgspec.Struct]]] = {
        "down": list(get_args(messages.Down)),
        "up": list(get_args(messages.Up)),
    }
    types = [one for way in ways.values() for one in way]
    refs, schemas = msgspec.json.schema_components(
        [*(drawable(one) for one in types), Head], ref_template=SCHEMA_PLACE
    )
    payloads = dict(zip(types, refs[:-1], strict=True))
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
    return json_page(document)


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
    required = list(fields)
    head = {"$ref": SCHEMA_PLACE.format(name=Head.__name__)}
    if way == "down":
        fields |= {"heads": {"type": "array", "items": head}, "checkpoint": {"type": "string"}}
    else:
        fields["head"] = head
    assert list(fields) == [field.name for field in msgspec.structs.fields(wanted)]
    return {"type": "object", "properties": fields, "required": required}


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
