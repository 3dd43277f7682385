"""What a third party reads: devices, limits, formats, permissions, its requests and their journeys."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from doorward.ccs.doors.api.openapi import answers
from doorward.ccs.doors.api.parts import Cursor, Id, Limit, Name, Token, json_response
from doorward.ccs.doors.api.requests import id_of
from doorward.ccs.reading import Reading
from doorward.ccs.rules.lifecycle import State

States = Annotated[list[State], Query(description="Only requests in one of these states.")]


def catalogue_router(reading: Reading) -> APIRouter:
    """Return the routes of all reads but events."""
    router = APIRouter(prefix="/v1", default_response_class=Response)

    @router.get("/devices", tags=["devices"], **answers("Devices"))
    async def list_devices(token: Token, service_point: Name = "") -> Response:
        """List the devices that you may reach, with what you may ask of each and in which formats."""
        return json_response(await reading.devices(token, service_point))

    @router.get("/devices/{device}", tags=["devices"], **answers("Device", missing="device-unknown"))
    async def get_device(token: Token, device: Id) -> Response:
        """Show one device. One that is not there and one that you may not reach look the same."""
        return json_response(await reading.device(token, device))

    @router.get("/limits", tags=["limits"], **answers("Limits", missing="not-found"))
    async def get_limits(
        token: Token, service_point: Annotated[str, Query(min_length=1, max_length=64)]
    ) -> Response:
        """Say how many messages to a service point remain, in the tightest of each window."""
        return json_response(await reading.limits(token, service_point))

    @router.get("/formats", tags=["formats"], **answers("Formats"))
    async def list_formats(token: Token) -> Response:
        """List the active message formats with their JSON Schemas."""
        return json_response(await reading.formats(token))

    @router.get("/formats/{name}/{version}", tags=["formats"], **answers("Format", missing="not-found"))
    async def get_format(token: Token, name: Id, version: Annotated[int, Path(ge=1, le=9999)]) -> Response:
        """Show one message format, also when it is retired."""
        return json_response(await reading.format(token, name, version))

    @router.get("/grants", tags=["grants"], **answers("Grants"))
    async def list_grants(
        token: Token,
        after: Annotated[int, Query(ge=-1, le=2**62, description="A sequence number.")] = -1,
        limit: Limit = 100,
    ) -> Response:
        """List customers' permissions in the order of their changes: a feed, go on after the last `sequence`."""
        return json_response(await reading.grants(token, after, limit))

    @router.get("/requests", tags=["requests"], **answers("Requests"))
    async def list_requests(
        token: Token,
        state: States = [],  # noqa: B006 - FastAPI reads it as the default of a query parameter
        device: Name = "",
        service_point: Name = "",
        campaign: Name = "",
        after: Cursor = "",
        limit: Limit = 50,
    ) -> Response:
        """List your requests, newest first, without their results."""
        view = await reading.requests(
            token,
            after=after,
            limit=limit,
            states=state,
            device=device,
            service_point=service_point,
            campaign=campaign,
        )
        return json_response(view)

    @router.get("/requests/{id}/journey", tags=["requests"], **answers("Journey", missing="not-found"))
    async def get_journey(token: Token, id: Id) -> Response:
        """Show every step of a request: when, by whom, how it went, and all its times in one answer."""
        return json_response(await reading.journey(token, id_of(id)))

    return router
