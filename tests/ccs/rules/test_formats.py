"""Message formats: every use has one, valid bodies pass, and what is wrong is named with its place."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.ccs.engines.standard_formats import standard_documents, standard_formats
from doorward.ccs.rules import formats
from doorward.ccs.rules.facts import FormatRow
from doorward.ccs.rules.formats import Catalogue, Format, check_format
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import CLASS_OPERATIONS, Operation

STANDARD = standard_formats()
CATALOGUE = Catalogue(STANDARD)
UNKNOWN = "zz_unknown"


def document(**changes: object) -> bytes:
    """Return a small format of a utility's own, with some fields changed (``None`` leaves one out)."""
    base: dict[str, object] = {
        "name": "acme.relay_level",
        "version": 1,
        "device_class": "relay",
        "operation": "duty_cycle",
        "title": "Our own level",
        "request": {
            "type": "object",
            "properties": {"percent": {"type": "integer", "minimum": 0, "maximum": 50}},
            "required": ["percent"],
            "additionalProperties": False,
        },
    }
    return json.dumps({k: v for k, v in {**base, **changes}.items() if v is not None}).encode()


def request(**changes: object) -> dict[str, object]:
    return {"type": "object", "additionalProperties": False, **changes}


def refusal(document: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        check_format(document)
    return caught.value


# --- the standard set -----------------------------------------------------------------------------


def test_every_class_and_operation_has_a_format_and_nothing_else_has() -> None:
    wanted = {
        (one.value, operation) for one, operations in CLASS_OPERATIONS.items() for operation in operations
    }
    wanted |= {("home", Operation.READ), ("service_point", Operation.LIMIT)}
    assert {(one.device_class, one.operation) for one in STANDARD} == wanted
    assert len(STANDARD) == len(wanted)
    for one in STANDARD:
        assert one.name == f"{one.device_class}.{one.operation.value}"
        assert CATALOGUE.newest(one.device_class, one.operation).format == one


def nodes(schema: object) -> list[dict[str, Any]]:
    if isinstance(schema, dict):
        return [schema, *(node for value in schema.values() for node in nodes(value))]
    return [node for value in schema for node in nodes(value)] if isinstance(schema, list) else []


@pytest.mark.parametrize("one", STANDARD, ids=lambda one: one.reference)
def test_everything_in_a_standard_body_is_bounded_and_says_its_unit(one: Format) -> None:
    for node in nodes(one.request):
        kind = node.get("type")
        if kind in ("number", "integer"):
            assert {"minimum", "maximum"} <= set(node), node
        if kind == "string":
            assert "maxLength" in node or "pattern" in node, node
        if kind == "array":
            assert "maxItems" in node, node
        if kind == "object":
            assert node["additionalProperties"] is False, node
    properties = {k: v for node in nodes(one.request) for k, v in node.get("properties", {}).items()}
    for name, schema in properties.items():
        assert "description" in schema, name
        if schema.get("type") == "number":
            assert one.units[name] in schema["description"], name


# --- bodies ---------------------------------------------------------------------------------------


def value_of(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Return valid values of the part of JSON Schema that the standard set uses."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "object":
        return object_of(schema)
    if schema["type"] == "array":
        return st.lists(
            value_of(schema["items"]),
            min_size=schema["minItems"],
            max_size=min(4, schema["maxItems"]),
            unique=schema.get("uniqueItems", False),
        )
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if schema["type"] == "number":
        return st.floats(schema["minimum"], schema["maximum"])
    if schema["type"] == "boolean":
        return st.booleans()
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
    return st.from_regex(schema["pattern"], fullmatch=True).map(str.strip)


@st.composite
def object_of(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = set(schema.get("required", []))
    names = required | (set(draw(st.sets(st.sampled_from(sorted(properties))))) if properties else set())
    for name, others in schema.get("dependentRequired", {}).items():
        names |= set(others) if name in names else set()
    if len(names) < schema.get("minProperties", 0):
        names = set(properties)
    return {name: draw(value_of(properties[name])) for name in sorted(names)}


@st.composite
def format_and_body(draw: st.DrawFn) -> tuple[Format, dict[str, Any]]:
    one = draw(st.sampled_from(STANDARD))
    return one, draw(object_of(one.request))


@given(format_and_body())
def test_a_valid_body_passes(sample: tuple[Format, dict[str, Any]]) -> None:
    one, body = sample
    assert CATALOGUE.named(one.reference).check_raw(json.dumps(body).encode()) == body


@given(format_and_body())
def test_an_unknown_field_is_refused_by_its_name(sample: tuple[Format, dict[str, Any]]) -> None:
    one, body = sample
    with pytest.raises(Refused) as caught:
        CATALOGUE.named(one.reference).check({**body, UNKNOWN: 1})
    assert caught.value.reason is Reason.FORMAT_INVALID
    assert caught.value.field == f"/body/{UNKNOWN}"


WITH_REQUIRED = [one for one in STANDARD if one.request.get("required")]


@given(st.data(), st.sampled_from(WITH_REQUIRED))
def test_a_missing_field_is_refused_by_its_name(data: st.DataObject, one: Format) -> None:
    body = data.draw(object_of(one.request))
    gone = data.draw(st.sampled_from(one.request["required"]))
    del body[gone]
    with pytest.raises(Refused) as caught:
        CATALOGUE.named(one.reference).check(body)
    assert (caught.value.field, caught.value.detail) == (f"/body/{gone}", "this field is missing")


NUMBERS = [
    (one, name, schema)
    for one in STANDARD
    for name, schema in one.request.get("properties", {}).items()
    if schema.get("type") in ("number", "integer")
]


@given(st.data(), st.sampled_from(NUMBERS), st.integers(1, 10**6), st.booleans())
def test_a_number_out_of_bounds_is_refused_with_its_place(
    data: st.DataObject, where: tuple[Format, str, dict[str, Any]], by: int, above: bool
) -> None:
    one, name, schema = where
    body = data.draw(object_of(one.request))
    body[name] = schema["maximum"] + by if above else schema["minimum"] - by
    with pytest.raises(Refused) as caught:
        CATALOGUE.named(one.reference).check(body)
    assert caught.value.field == f"/body/{name}"
    assert ("maximum" if above else "minimum") in caught.value.detail
    assert str(body[name]) not in caught.value.detail.split()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200)
@given(st.data(), format_and_body())
def test_the_verdict_is_that_of_another_implementation(
    data: st.DataObject, sample: tuple[Format, dict[str, Any]]
) -> None:
    one, body = sample
    for name in sorted(body)[: data.draw(st.integers(0, 1))]:
        body[name] = data.draw(JSON_VALUES)
    judge = jsonschema.Draft202012Validator(one.request)
    try:
        CATALOGUE.named(one.reference).check(body)
    except Refused as refused:
        assert refused.field.startswith("/body")
        assert not judge.is_valid(body) or "date-time" in refused.detail
    else:
        assert judge.is_valid(body)


def test_a_place_deep_inside_is_named() -> None:
    with pytest.raises(Refused) as caught:
        CATALOGUE.named("relay.program/1").check(
            {"intervals": [{"at": "06:00", "on": True}, {"at": "6", "on": True}]}
        )
    assert caught.value.field == "/body/intervals/1/at"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"celsius":' + b" " * formats.BODY_BYTES_MAX + b"20}", Reason.BODY_TOO_LARGE),
        (b'{"celsius":' + b"[" * 9 + b"]" * 9 + b"}", Reason.FORMAT_INVALID),
        (b"[20]", Reason.FORMAT_INVALID),
        (b'{"celsius":20', Reason.FORMAT_INVALID),
        (b'{"celsius":NaN}', Reason.FORMAT_INVALID),
        (b'{"celsius":"\xff"}', Reason.FORMAT_INVALID),
    ],
)
def test_what_is_too_large_too_deep_or_no_object_is_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        CATALOGUE.named("thermostat.setpoint").check_raw(raw)
    assert caught.value.reason is reason
    assert caught.value.field == "/body"


# --- the catalogue --------------------------------------------------------------------------------


def version(one: Format, number: int) -> Format:
    return msgspec.structs.replace(one, version=number)


SETPOINT = CATALOGUE.named("thermostat.setpoint/1").format


def test_the_newest_active_version_is_the_default() -> None:
    catalogue = Catalogue([version(SETPOINT, 10), version(SETPOINT, 9)], retired=[version(SETPOINT, 11)])
    assert catalogue.named("thermostat.setpoint").format.version == 10
    assert catalogue.newest("thermostat", Operation.SETPOINT).format.version == 10


def test_a_retired_version_says_so_and_names_the_newest() -> None:
    catalogue = Catalogue([version(SETPOINT, 2)], retired=[SETPOINT])
    with pytest.raises(Refused) as caught:
        catalogue.named("thermostat.setpoint/1")
    assert caught.value.reason is Reason.FORMAT_RETIRED
    assert "thermostat.setpoint/2" in caught.value.detail
    with pytest.raises(Refused) as caught:
        Catalogue([], retired=[SETPOINT]).named("thermostat.setpoint")
    assert caught.value.reason is Reason.FORMAT_RETIRED


@pytest.mark.parametrize(
    "reference",
    ["", "thermostat.setpoint/2", "thermostat", "thermostat.setpoint/01", "a/b/c", "x" * 500, "é"],
)
def test_what_was_never_there_is_unknown(reference: str) -> None:
    with pytest.raises(Refused) as caught:
        CATALOGUE.named(reference)
    assert caught.value.reason is Reason.FORMAT_UNKNOWN
    assert caught.value.field == "/format"


def test_a_utilitys_own_format_is_the_default_only_where_the_standard_one_is_retired() -> None:
    own = check_format(document(version=7))
    standard = CATALOGUE.named("relay.duty_cycle").format
    assert Catalogue([own, standard]).newest("relay", Operation.DUTY_CYCLE).format == standard
    assert Catalogue([own], retired=[standard]).newest("relay", Operation.DUTY_CYCLE).format == own
    with pytest.raises(Refused) as caught:
        Catalogue([]).newest("relay", Operation.DUTY_CYCLE)
    assert caught.value.reason is Reason.FORMAT_UNKNOWN


def test_the_catalogue_is_built_from_what_the_store_holds() -> None:
    rows = [
        FormatRow(name="acme.relay_level", version=1, state="retired", document=document()),
        FormatRow(name="acme.relay_level", version=2, state="active", document=document(version=2)),
    ]
    catalogue = Catalogue.of(rows, version=42)
    assert catalogue.version == 42
    assert [one.reference for one in catalogue.active()] == ["acme.relay_level/2"]
    assert [one.reference for one in catalogue.retired()] == ["acme.relay_level/1"]
    assert catalogue.named("acme.relay_level").check_raw(b'{"percent": 50}') == {"percent": 50}


# --- adding a format ------------------------------------------------------------------------------


def test_a_standard_document_is_one_that_the_utility_could_have_added() -> None:
    assert [check_format(raw) for raw in standard_documents()] == STANDARD


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "Acme Level"}, "/name"),
        ({"name": "single"}, "/name"),
        ({"version": 0}, "/version"),
        ({"version": "one"}, "/version"),
        ({"device_class": "toaster"}, "/device_class"),
        ({"operation": "explode"}, "/operation"),
        ({"operation": "setpoint"}, "/operation"),
        ({"title": ""}, "/title"),
        ({"units": {"percent": 1}}, "/units"),
        ({"request": {"type": "object"}}, "/request/additionalProperties"),
        ({"request": {"additionalProperties": False}}, "/request/type"),
        ({"request": request(properties={"a": {"minimum": "x"}})}, "/request/properties/a/minimum"),
        ({"request": request(properties={"a": {"type": "numbr"}})}, "/request/properties/a/type"),
        ({"request": request(properties={"a": {"pattern": "("}})}, "/request/properties/a/pattern"),
        (
            {"request": request(properties={"a/b": {"$ref": "https://x.example/s"}})},
            "/request/properties/a~1b/$ref",
        ),
        ({"request": request(allOf=[{"$ref": "file:///etc/passwd"}])}, "/request/allOf/0/$ref"),
        ({"request": request(**{"$id": "https://x.example/type"})}, "/request/$id"),
        ({"request": request(**{"$schema": "http://json-schema.org/draft-07/schema#"})}, "/request/$schema"),
        ({"request": request(allOf=[{"$ref": "#/$defs/none"}])}, "/request"),
        ({"answer": {"maximum": []}}, "/answer/maximum"),
    ],
)
def test_a_broken_format_is_refused_with_the_place(changes: dict[str, object], place: str) -> None:
    refused = refusal(document(**changes))
    assert refused.reason is Reason.FORMAT_INVALID
    assert refused.field == place
    assert refused.detail


def test_a_format_with_a_field_too_many_or_too_few_is_refused() -> None:
    assert "colour" in refusal(document(colour="red")).detail
    assert "title" in refusal(document(title=None)).detail


def test_a_format_that_is_too_large_too_deep_or_not_json_is_refused() -> None:
    assert refusal(document(description="x" * formats.DOCUMENT_BYTES_MAX)).reason is Reason.BODY_TOO_LARGE
    deep: dict[str, object] = {}
    for _ in range(formats.DOCUMENT_DEPTH_MAX):
        deep = {"not": deep}
    assert "nests deeper" in refusal(document(request=request(**deep))).detail
    assert "not JSON" in refusal(b"{").detail


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    names = {"$ref": {"type": "boolean"}, "$id": {"type": "boolean"}}
    own = check_format(document(request=request(properties=names)))
    Catalogue([own]).named(own.reference).check({"$ref": True})


def test_a_format_may_refer_to_its_own_definitions() -> None:
    own = check_format(
        document(
            request=request(properties={"a": {"$ref": "#/$defs/a"}}, **{"$defs": {"a": {"type": "boolean"}}})
        )
    )
    compiled = Catalogue([own]).named(own.reference)
    compiled.check({"a": True})
    with pytest.raises(Refused, match="boolean"):
        compiled.check({"a": 1})


def test_a_greedy_pattern_cannot_stop_the_server() -> None:
    own = check_format(document(request=request(properties={"a": {"type": "string", "pattern": "^(a+)+$"}})))
    with pytest.raises(Refused, match="does not match"):
        Catalogue([own]).named(own.reference).check({"a": "a" * 5000 + "!"})
