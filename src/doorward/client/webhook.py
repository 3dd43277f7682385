"""Receiving webhooks: is it really from the utility, and what does it say?"""

from collections.abc import Collection, Mapping

import msgspec

from doorward.client.defaults import real_clock
from doorward.client.errors import WebhookRefused
from doorward.client.records import Event
from doorward.wire.codec import NOT_JSON
from doorward.wire.webhook_signature import SignatureWrong, verify

US = 1_000_000
BODY_BYTES_MAX = 1024 * 1024
TOLERANCE_S = 300.0


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    challenge: str = ""
    data: Event | None = None


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret: str | Collection[str] | None = None,
    public_keys: Collection[str | Mapping[str, str]] = (),
    now_s: float | None = None,
    tolerance_s: float = TOLERANCE_S,
) -> Event:
    """Return what a webhook says, once it has proved where it comes from.

    ``body`` are the bytes as they came. Give the endpoint's ``secret`` (``whsec_…``, or several while you
    change it), or the CCS's ``public_keys`` (``whpk_…`` or JWKs, from ``client.webhook_keys()``).
    Raises :class:`WebhookRefused` when no signature verifies, when it was signed more than
    ``tolerance_s`` ago or ahead, or when it is not a webhook of Doorward. The same webhook may come more
    than once: remember ``event.id``.
    """
    if len(body) > BODY_BYTES_MAX:
        raise WebhookRefused(f"the body has more than {BODY_BYTES_MAX} bytes")
    secrets = [secret] if isinstance(secret, str) else list(secret or ())
    try:
        verify(
            headers,
            body,
            secrets=secrets,
            public_keys=public_keys,
            now_s=real_clock().now_us() / US if now_s is None else now_s,
            tolerance_s=tolerance_s,
        )
        said = msgspec.json.decode(body, type=_Envelope)
    except SignatureWrong as error:
        raise WebhookRefused(str(error)) from None
    except (ValueError, *NOT_JSON) as error:
        raise WebhookRefused(f"not a webhook: {error}") from None
    if said.data is not None:
        return said.data
    return Event(type=said.type, challenge=said.challenge)
