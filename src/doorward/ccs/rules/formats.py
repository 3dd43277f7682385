"""Message formats (F08, F14): named, versioned JSON Schemas that the utility can add to and retire.

A format says what the ``body`` of a request may hold for one device class (or the home, or the service
point as a whole) and one operation. The standard set lies in ``ccs/formats``; nothing here reads files.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError, ValidationErrorKind, meta

from doorward.ccs.rules.facts import FormatRow
from doorward.wire.codec import depth_within
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import CLASS_OPERATIONS, Operation, Scope

BODY_BYTES_MAX = 16 * 1024
BODY_DEPTH_MAX = 8
DOCUMENT_BYTES_MAX = 64 * 1024
DOCUMENT_DEPTH_MAX = 20
DETAIL_CHARS_MAX = 300
VERSION_MAX = 9999
DIALECT = "https://json-schema.org/draft/2020-12/schema"
HOME = Scope.HOME.value
SERVICE_POINT = Scope.SERVICE_POINT.value

OPERATIONS: MappingProxyType[str, frozenset[Operation]] = MappingProxyType(
    {
        **{device_class.value: operations for device_class, operations in CLASS_OPERATIONS.items()},
        HOME: frozenset({Operation.READ}),
        SERVICE_POINT: frozenset({Operation.LIMIT}),
    }
)
"""What a format may be for: device class, ``home`` or ``service_point`` → operations."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}(\.[a-z][a-z0-9_]{0,40}){1,3}")
_REFERENCE = re.compile(r"([a-z0-9_.]{1,170})(?:/([1-9][0-9]{0,3}))?")
_LOCAL_REFERENCE = re.compile(r"#(/\$defs/[A-Za-z0-9_-]+)?")
_MSGSPEC_PATH = re.compile(r" - at `\$(.*)`$")
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that are no JSON, and for text that is no UTF-8."""

_decode_document = msgspec.json.Decoder(dict[str, Any])
_decode_body = msgspec.json.Decoder(dict[str, object])


class Format(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message format. ``request`` is the schema of the body, ``answer`` that of the result's data.

    ``device_class`` is a class of the vocabulary, ``home`` or ``service_point``; ``units`` names the
    unit of each number that has one.
    """

    name: str
    version: int
    device_class: str
    operation: Operation
    title: str
    description: str = ""
    units: dict[str, str] = {}
    request: dict[str, Any]
    answer: dict[str, Any] = {}

    @property
    def reference(self) -> str:
        """How a request names it: ``thermostat.setpoint/1``."""
        return f"{self.name}/{self.version}"


class Compiled:
    """An active format, ready to judge bodies."""

    def __init__(self, format_: Format) -> None:
        self.format = format_
        self._validator = _validator(format_.request)

    def check(self, body: dict[str, object], field: str = "/body") -> None:
        """Raise ``format-invalid`` naming the first place (JSON pointer below ``field``) and the rule broken."""
        error = next(self._validator.iter_errors(body), None)
        if error is not None:
            raise Refused(Reason.FORMAT_INVALID, _words(error), field=field + _place(error))

    def check_raw(self, raw: bytes | memoryview, field: str = "/body") -> dict[str, object]:
        """Decode a body and :meth:`check` it; also raises what :func:`decode_body` does."""
        body = decode_body(raw, field)
        self.check(body, field)
        return body


class Catalogue:
    """All formats at one moment; immutable. ``version`` is the store's, so that a worker sees when to reload."""

    def __init__(
        self, formats: Iterable[Format], *, retired: Iterable[Format] = (), version: int = 0
    ) -> None:
        self.version = version
        self._compiled = {format_.reference: Compiled(format_) for format_ in formats}
        self._retired = {format_.reference: format_ for format_ in retired}
        self._by_name: dict[str, Compiled] = {}
        self._by_use: dict[tuple[str, Operation], Compiled] = {}
        for compiled in sorted(self._compiled.values(), key=_precedence):
            self._by_name[compiled.format.name] = compiled
            self._by_use[compiled.format.device_class, compiled.format.operation] = compiled

    @classmethod
    def of(cls, rows: Sequence[FormatRow], version: int) -> "Catalogue":
        """Build from what the store holds; raise ``format-invalid`` if a document there is broken."""
        active = [check_format(row.document) for row in rows if row.state == "active"]
        retired = [check_format(row.document) for row in rows if row.state == "retired"]
        return cls(active, retired=retired, version=version)

    def named(self, reference: str, field: str = "/format") -> Compiled:
        """Return the format of ``name/version``, or the newest active one of ``name``.

        Raises ``format-unknown``, or ``format-version-retired`` when it was there once.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise Refused(
                Reason.FORMAT_UNKNOWN, "write a format as name/version: thermostat.setpoint/1", field=field
            )
        found = self._compiled.get(reference) if match[2] else self._by_name.get(match[1])
        if found is not None:
            return found
        if reference in self._retired or any(old.name == reference for old in self._retired.values()):
            raise Refused(
                Reason.FORMAT_RETIRED, f"{reference} is retired{self._instead(match[1])}", field=field
            )
        raise Refused(
            Reason.FORMAT_UNKNOWN, f"there is no format {reference}{self._instead(match[1])}", field=field
        )

    def newest(self, device_class: str, operation: Operation, field: str = "/operation") -> Compiled:
        """Return what judges a request that names no format.

        That is the newest active version of the standard name (``class.operation``); failing that, the
        newest of the utility's own for this use. ``device_class`` may be ``home`` or ``service_point``.
        Raises ``format-unknown`` when there is none.
        """
        found = self._by_use.get((device_class, operation))
        if found is None:
            raise Refused(
                Reason.FORMAT_UNKNOWN,
                f"there is no message format for {operation.value} of {device_class}",
                field=field,
            )
        return found

    def active(self) -> list[Format]:
        """Active formats by name and version."""
        return sorted((one.format for one in self._compiled.values()), key=_order)

    def retired(self) -> list[Format]:
        """Retired formats by name and version."""
        return sorted(self._retired.values(), key=_order)

    def _instead(self, name: str) -> str:
        newest = self._by_name.get(name)
        return "" if newest is None else f"; the newest is {newest.format.reference}"


def _order(format_: Format) -> tuple[str, int]:
    return format_.name, format_.version


def _precedence(compiled: Compiled) -> tuple[bool, int, str]:
    """Sort key: what comes last wins. The standard name beats others, then the version counts."""
    one = compiled.format
    return one.name == f"{one.device_class}.{one.operation.value}", one.version, one.name


def decode_body(raw: bytes | memoryview, field: str = "/body") -> dict[str, object]:
    """Return the object that ``raw`` is; raise ``body-too-large`` or ``format-invalid`` (depth, no object)."""
    if len(raw) > BODY_BYTES_MAX:
        raise Refused(
            Reason.BODY_TOO_LARGE, f"the body has {len(raw)} bytes of {BODY_BYTES_MAX}", field=field
        )
    if not depth_within(raw, BODY_DEPTH_MAX):
        raise Refused(Reason.FORMAT_INVALID, f"the body nests deeper than {BODY_DEPTH_MAX}", field=field)
    try:
        return _decode_body.decode(raw)
    except NOT_JSON as error:
        raise Refused(Reason.FORMAT_INVALID, str(error)[:DETAIL_CHARS_MAX], field=field) from None


# --- adding a format ------------------------------------------------------------------------------


def check_format(document: bytes) -> Format:
    """Return the format that a JSON document is; raise ``body-too-large`` or ``format-invalid`` with the place.

    The body's schema must be a closed object (``additionalProperties: false``) in JSON Schema 2020-12;
    ``$ref`` may point into its own ``$defs`` only, and patterns must be ones that match in linear time.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise Refused(
            Reason.BODY_TOO_LARGE, f"a format has at most {DOCUMENT_BYTES_MAX} bytes, not {len(document)}"
        )
    if not depth_within(document, DOCUMENT_DEPTH_MAX):
        raise Refused(Reason.FORMAT_INVALID, f"the format nests deeper than {DOCUMENT_DEPTH_MAX}")
    try:
        format_ = msgspec.convert(_decode_document.decode(document), Format)
    except msgspec.ValidationError as error:
        raise _invalid(_pointer_of(str(error)), _MSGSPEC_PATH.sub("", str(error))) from None
    except NOT_JSON as error:
        raise _invalid("", f"not JSON: {error}") from None
    for place, rule in _broken(format_):
        raise _invalid(place, rule)
    _check_schema(format_.request, "/request")
    if format_.answer:
        _check_schema(format_.answer, "/answer")
    return format_


def _broken(format_: Format) -> Iterator[tuple[str, str]]:
    """Yield (place, rule) for the rules that are not the schemas' own."""
    if _NAME.fullmatch(format_.name) is None:
        yield "/name", "a name is words in lower case joined by dots: thermostat.setpoint"
    if not 1 <= format_.version <= VERSION_MAX:
        yield "/version", f"a version is 1 to {VERSION_MAX}"
    if format_.device_class not in OPERATIONS:
        yield "/device_class", f"one of {', '.join(OPERATIONS)}"
    elif format_.operation not in OPERATIONS[format_.device_class]:
        allowed = ", ".join(sorted(OPERATIONS[format_.device_class]))
        yield "/operation", f"{format_.device_class} has no {format_.operation.value}; it has {allowed}"
    if not 1 <= len(format_.title) <= 100:
        yield "/title", "1 to 100 characters"
    if format_.request.get("type") != "object":
        yield "/request/type", 'the body is an object: "type" must be "object"'
    if format_.request.get("additionalProperties") is not False:
        yield "/request/additionalProperties", "must be false, so that a slip in a name is seen"


def _check_schema(schema: dict[str, Any], place: str) -> None:
    if schema.get("$schema", DIALECT) != DIALECT:
        raise _invalid(f"{place}/$schema", f"must be {DIALECT}")
    for where, rule in _references(schema, place):
        raise _invalid(where, rule)
    try:
        meta.validate(schema)
        _validator(schema)
    except ValidationError as error:
        raise _invalid(place + _place(error), _words(error)) from None


def _references(node: object, place: str) -> Iterator[tuple[str, str]]:
    """Yield (place, rule) for what would lead out of the document."""
    if isinstance(node, dict):
        for key, value in node.items():
            where = f"{place}/{_escaped(key)}"
            if (
                key in ("$ref", "$dynamicRef")
                and isinstance(value, str)
                and not _LOCAL_REFERENCE.fullmatch(value)
            ):
                yield where, "may only point into this schema's own $defs: #/$defs/NAME"
            if key == "$id" and isinstance(value, str):
                yield where, "is not allowed: a format stands alone"
            yield from _references(value, where)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _references(value, f"{place}/{index}")


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    # The mask keeps what a caller wrote out of messages and logs; without "properties" the error of a
    # field too many would not name it.
    return Draft202012Validator(
        {"properties": {}, **schema},
        validate_formats=True,
        offline=True,
        pattern_options=RegexOptions(),
        mask="the value",
    )


# --- words ----------------------------------------------------------------------------------------


def _invalid(place: str, rule: str) -> Refused:
    return Refused(Reason.FORMAT_INVALID, rule, field=place)


def _words(error: ValidationError) -> str:
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.AdditionalProperties):
        return "there is no such field in this format"
    if isinstance(kind, ValidationErrorKind.Required):
        return "this field is missing"
    return error.message[:DETAIL_CHARS_MAX]


def _place(error: ValidationError) -> str:
    """JSON pointer of what is wrong: for a field too many or one that is missing, of that field."""
    steps = list(error.instance_path)
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.AdditionalProperties):
        steps.append(kind.unexpected[0])
    elif isinstance(kind, ValidationErrorKind.Required):
        steps.append(str(kind.property))
    return "".join(f"/{_escaped(str(step))}" for step in steps)[:DETAIL_CHARS_MAX]


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _pointer_of(message: str) -> str:
    """JSON pointer of a msgspec error, whose text ends in a path like ``$.units[...]``."""
    match = _MSGSPEC_PATH.search(message)
    return "" if match is None else re.sub(r"[.\[]", "/", match[1].replace("]", "")).rstrip("/")
