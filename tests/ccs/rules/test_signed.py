"""X03 at the door: what the gateway would refuse for its signature is refused here already, with the reason."""

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.ccs.rules import access
from doorward.ccs.rules.asking import draft, read_ask
from doorward.ccs.rules.facts import Grant, Party, Place
from doorward.ccs.rules.identity import Caller
from doorward.wire.grants import DevicePermit, GrantDocument, SignedCommand
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import public_jwk, sign
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import DeviceClass, Operation, Scope

US = 1_000_000
NOW_US = 1_800_000_000 * US
KEY = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
PLACE = Place(service_point="sp-1", gateway="gw-1", partition=1)
UNTIL_US = NOW_US + 3600 * US


def grant(**changes: Any) -> Grant:
    fields: dict[str, Any] = {
        "grant": "g-1",
        "version": 3,
        "party": "acme",
        "service_point": "sp-1",
        "purpose": "savings",
        "devices": [
            DevicePermit(
                device="ev",
                device_class=DeviceClass.EV_CHARGER,
                operations=[Operation.READ, Operation.LIMIT, Operation.TURN_OFF],
            )
        ],
        "not_before_us": 0,
        "expires_us": 2**60,
        "issued_us": 0,
        "service_point_limit": True,
        "signature_required": True,
        "party_keys": {"k1": public_jwk(KEY.public_key())},
    }
    document = GrantDocument(**(fields | changes))
    return Grant(
        id="g-1",
        party="acme",
        service_point="sp-1",
        version=3,
        state="live",
        tier="gold",
        document=document,
        signed="",
    )


def asked(**changes: Any) -> dict[str, Any]:
    """A request as it is written: a limit of 2 kW until in an hour."""
    fields: dict[str, Any] = {
        "operation": "limit",
        "device": "ev",
        "body": {"watts": 2000},
        "until": to_rfc3339(UNTIL_US),
        "key": "mine-1",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def signature(key: Ed25519PrivateKey = KEY, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "id": "mine-1",
        "party": "acme",
        "service_point": "sp-1",
        "scope": Scope.DEVICE,
        "device": "ev",
        "operation": Operation.LIMIT,
        "body": msgspec.Raw(b'{"watts":2000}'),
        "start_us": 0,
        "until_us": UNTIL_US,
        "issued_us": NOW_US - US,
        "expires_us": NOW_US + 600 * US,
        "grant_version": 3,
    }
    return sign(msgspec.json.encode(SignedCommand(**(fields | changes))), key, "k1", "command")


def authorise(fields: dict[str, Any], under: Grant | None = None, now_us: int = NOW_US) -> access.Granted:
    text = read_ask(msgspec.json.encode(fields))
    made = draft(text, text.key, "", now_us)
    caller = Caller(party=Party(id="acme", name="Acme"), scopes=frozenset({"monitor", "control"}))
    return access.authorise(caller, made, PLACE, under or grant(), now_us)


def refused(fields: dict[str, Any], why: str, under: Grant | None = None) -> None:
    with pytest.raises(Refused) as no:
        authorise(fields, under)
    assert (no.value.reason, no.value.field) == (Reason.SIGNATURE_INVALID, "/signature")
    assert why in no.value.detail


def test_what_is_signed_passes() -> None:
    assert authorise(asked(signature=signature())).draft.until_us == UNTIL_US


def test_what_is_not_signed_is_refused_where_the_permission_asks_for_it_and_only_there() -> None:
    refused(asked(), "asks for the service's signature")
    assert authorise(asked(), grant(signature_required=False))
    assert authorise(asked(operation="read", until=None, body={}))
    assert authorise(asked(operation="release", until=None, body={}))


def test_a_signature_that_is_there_is_checked_even_where_none_is_asked_for() -> None:
    refused(asked(signature=signature(device="other")), "device", grant(signature_required=False))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": "another"}, "id"),
        ({"party": "rival"}, "party"),
        ({"service_point": "sp-2"}, "service_point"),
        ({"scope": Scope.SERVICE_POINT}, "scope"),
        ({"operation": Operation.TURN_OFF}, "operation"),
        ({"body": msgspec.Raw(b'{"watts":2001}')}, "body"),
        ({"body": msgspec.Raw(b'{"watts":2000.0}')}, "body"),
        ({"start_us": 5}, "start_us"),
        ({"until_us": 5}, "until_us"),
        ({"grant_version": 2}, "signed for version 2 of the permission, which is now at version 3"),
        ({"issued_us": NOW_US + 60 * US}, "in the future"),
        ({"expires_us": NOW_US}, "expired"),
        ({"expires_us": 2**60}, "3 days at most"),
    ],
)
def test_a_signature_for_something_else_names_what_differs(changes: dict[str, Any], why: str) -> None:
    refused(asked(signature=signature(**changes)), why)


def test_a_strangers_signature_is_refused() -> None:
    refused(asked(signature=signature(Ed25519PrivateKey.generate())), "does not verify")


def test_blanks_and_the_order_of_keys_in_a_body_mean_nothing() -> None:
    assert authorise(asked(signature=signature(body=msgspec.Raw(b'{ "watts" : 2000 }'))))


def test_a_start_that_was_signed_and_has_just_passed_is_still_what_was_signed() -> None:
    start_us = NOW_US - 2 * US
    fields = asked(start=to_rfc3339(start_us), signature=signature(start_us=start_us))
    assert authorise(fields).draft.start_us == start_us


def test_a_limit_of_the_whole_home_is_signed_as_that() -> None:
    whole = {"scope": "service_point", "service_point": "sp-1", "device": None}
    refused(asked(**whole, signature=signature()), "scope")
    assert authorise(asked(**whole, signature=signature(scope=Scope.SERVICE_POINT, device="")))
