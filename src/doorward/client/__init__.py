"""The SDK for third parties: ``Client`` and ``AsyncClient``. Start with ``README.md`` beside this file.

``ask`` builds requests, ``records`` are the answers, ``errors`` what may be raised, ``core`` all that is
not input or output; ``sync`` and ``aio`` are thin shells over it.
"""

from doorward.client import ask
from doorward.client.aio import AsyncClient
from doorward.client.ask import Ask
from doorward.client.errors import (
    Conflict,
    DeviceUnknown,
    DoorwardError,
    LimitExceeded,
    Malformed,
    NotAuthenticated,
    NotDone,
    NotFound,
    NotPermitted,
    Unreachable,
    WebhookRefused,
    require_done,
)
from doorward.client.records import (
    Device,
    Endpoint,
    Event,
    Format,
    Grant,
    Item,
    Journey,
    Limits,
    Problem,
    Request,
)
from doorward.client.sync import Client
from doorward.client.webhook import verify_webhook

__all__ = [
    "Ask",
    "AsyncClient",
    "Client",
    "Conflict",
    "Device",
    "DeviceUnknown",
    "DoorwardError",
    "Endpoint",
    "Event",
    "Format",
    "Grant",
    "Item",
    "Journey",
    "LimitExceeded",
    "Limits",
    "Malformed",
    "NotAuthenticated",
    "NotDone",
    "NotFound",
    "NotPermitted",
    "Problem",
    "Request",
    "Unreachable",
    "WebhookRefused",
    "ask",
    "require_done",
    "verify_webhook",
]
