"""A third party's signed command: one check of what was signed against what is asked, for the CCS and the gateway.

What is signed is :class:`~doorward.wire.grants.SignedCommand`, as compact JWS of ``typ`` ``command`` with
``alg`` "Ed25519" (RFC 9864): the third party's own id of the request, who, where, which device (or the
service point as a whole), what, from when until when, and for which version of the permission. In a list
each item carries its own signature; a list as a whole has none.
"""

from collections.abc import Mapping

import msgspec

from doorward.wire.grants import SignedCommand
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import verify
from doorward.wire.vocabulary import Operation

TYP = "command"
FIELD = "/signature"
DAY_US = 24 * 3600 * 1_000_000
SIGNED_US_MAX = 3 * DAY_US
"""The longest from ``issued_us`` to ``expires_us``: a start a day ahead, and a day to act on it."""

_command = msgspec.json.Decoder(SignedCommand)


def needs_signature(operation: Operation) -> bool:
    """Whether a signature counts: on everything that sets a device. Reading and letting go need none."""
    return operation.is_control and operation is not Operation.RELEASE


def require_present(signature: str) -> None:
    """Raise ``signature-invalid`` where the permission asks for a signature and there is none."""
    if not signature:
        raise Refused(
            Reason.SIGNATURE_INVALID,
            "the customer's permission asks for the service's signature",
            field=FIELD,
        )


def require_signed(
    signature: str, keys: Mapping[str, dict[str, str]], asked: Mapping[str, object], body: bytes | memoryview
) -> SignedCommand:
    """Return what was signed, once it is exactly what is asked.

    ``keys`` are those of the permission (``kid`` → JWK). ``asked`` holds every field of
    :class:`~doorward.wire.grants.SignedCommand` but the body and the times of the signature itself; ``body``
    is compared as JSON, types included. Raises ``signature-invalid``, which names every field that differs.
    """
    try:
        payload = verify(signature, dict(keys), TYP)
    except Refused as refused:
        raise _invalid(refused.detail) from None
    try:
        signed = _command.decode(payload)
        same_body = canonical(signed.body) == canonical(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(f"signed command: {error}") from None
    differing = [name for name, value in asked.items() if getattr(signed, name) != value]
    if not same_body:
        differing.append("body")
    if differing:
        raise _invalid(f"the signature is for another {', '.join(differing)}")
    if not signed.id:
        raise _invalid("a signed command needs an id of its own")
    if not 0 < signed.expires_us - signed.issued_us <= SIGNED_US_MAX:
        raise _invalid(f"a signature is good for {SIGNED_US_MAX // DAY_US} days at most")
    return signed


def require_in_time(signed: SignedCommand, now_us: int, *, skew_us: int, born_us: int = 0) -> None:
    """Raise ``signature-invalid`` outside the signature's time.

    ``skew_us`` is how far ahead of us the signer's clock may be; nothing signed before ``born_us`` counts.
    """
    if signed.issued_us < born_us:
        raise _invalid("signed before this gateway's store began")
    if signed.issued_us > now_us + skew_us:
        raise _invalid("signed in the future")
    if now_us >= signed.expires_us:
        raise _invalid("the signature has expired")


def require_version(signed: SignedCommand, version: int) -> None:
    """Raise ``signature-invalid`` unless what was signed is for the permission as it now stands."""
    if signed.grant_version != version:
        raise _invalid(
            f"signed for version {signed.grant_version} of the permission, which is now at version {version}"
        )


def canonical(body: bytes | memoryview | msgspec.Raw) -> bytes:
    """Return a body in one form: keys sorted, no blanks; ``1``, ``1.0`` and ``true`` stay different."""
    return msgspec.json.encode(msgspec.json.decode(body), order="sorted")


def _invalid(detail: str) -> Refused:
    return Refused(Reason.SIGNATURE_INVALID, detail, field=FIELD)
