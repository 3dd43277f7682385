"""The calls that are one question and one answer, each said once for both clients."""

from collections.abc import Sequence
from typing import Any

import msgspec

from doorward.client.core import Call, params, path
from doorward.client.records import (
    Device,
    Devices,
    Endpoint,
    Endpoints,
    Events,
    Format,
    Formats,
    Journey,
    Keys,
    Limits,
    Nothing,
    Request,
    Requests,
)


def get(request: str) -> Call[Request]:
    """How a request stands."""
    return Call(method="GET", path=path("requests", request), answer=Request)


def cancel(request: str) -> Call[Request]:
    """Cancel a request, if it has not acted."""
    return Call(method="DELETE", path=path("requests", request), answer=Request)


def cancel_campaign(campaign: str) -> Call[Requests]:
    """Cancel all requests of a campaign."""
    return Call(method="DELETE", path=path("requests"), answer=Requests, params=params(campaign=campaign))


def requests(**filters: Any) -> Call[Requests]:
    """A page of requests, newest first."""
    return Call(method="GET", path=path("requests"), answer=Requests, params=params(**filters))


def journey(request: str) -> Call[Journey]:
    """Every step of a request."""
    return Call(method="GET", path=path("requests", request, "journey"), answer=Journey)


def devices(service_point: str) -> Call[Devices]:
    """The devices that may be reached."""
    return Call(
        method="GET", path=path("devices"), answer=Devices, params=params(service_point=service_point)
    )


def device(device: str) -> Call[Device]:
    """One device."""
    return Call(method="GET", path=path("devices", device), answer=Device)


def limits(service_point: str) -> Call[Limits]:
    """What may still be sent to a service point."""
    return Call(method="GET", path=path("limits"), answer=Limits, params=params(service_point=service_point))


def formats() -> Call[Formats]:
    """The catalogue of formats."""
    return Call(method="GET", path=path("formats"), answer=Formats)


def format_(name: str, version: int) -> Call[Format]:
    """One format with its schemas."""
    return Call(method="GET", path=path("formats", name, str(version)), answer=Format)


def events(after: str, kind: str, limit: int) -> Call[Events]:
    """A page of events after a cursor."""
    asked = params(after=after, kind=kind, limit=limit)
    return Call(method="GET", path=path("events"), answer=Events, params=asked)


def endpoints() -> Call[Endpoints]:
    """The webhook endpoints."""
    return Call(method="GET", path=path("endpoints"), answer=Endpoints)


def put_endpoint(
    endpoint: str, url: str, mode: str, pin: str, kinds: Sequence[str], ca: str
) -> Call[Endpoint]:
    """Make or change an endpoint."""
    fields: dict[str, Any] = {"url": url, "mode": mode, "pin": pin, "kinds": list(kinds), "ca": ca}
    body = msgspec.json.encode({name: value for name, value in fields.items() if value})
    return Call(method="PUT", path=path("endpoints", endpoint), answer=Endpoint, body=body)


def prove_endpoint(endpoint: str) -> Call[Endpoint]:
    """Have the challenge sent to an endpoint."""
    return Call(method="POST", path=path("endpoints", endpoint, "prove"), answer=Endpoint)


def delete_endpoint(endpoint: str) -> Call[Nothing]:
    """Remove an endpoint."""
    return Call(method="DELETE", path=path("endpoints", endpoint), answer=Nothing)


def webhook_keys() -> Call[Keys]:
    """The keys that webhooks are signed with."""
    return Call(method="GET", path="/.well-known/webhook-keys.json", answer=Keys)
