"""Records for tests, with what a test does not care about filled in."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

from doorward.ccs.ports import AllBooks, Store
from doorward.ccs.rules.facts import (
    Account,
    Customer,
    Device,
    Event,
    Gateway,
    Grant,
    JournalRow,
    Link,
    LinkKind,
    Meter,
    Party,
    Request,
    ServicePoint,
    StepRecord,
    Tier,
)
from doorward.kit.ids import uuid7
from doorward.wire.grants import Bounds, DevicePermit, GrantDocument
from doorward.wire.steps import Step
from doorward.wire.topics import partition_of
from doorward.wire.vocabulary import DeviceClass, Operation, Scope

S = 1_000_000
HOUR = 3600 * S
DAY = 24 * HOUR
NOW = 1_790_000_000 * S

_dice = random.Random(1)


def new_id(at_us: int = NOW) -> str:
    """A fresh message id."""
    return uuid7(at_us, _dice)


def party(id: str = "volt", **changes: Any) -> Party:
    return Party(**{"id": id, "name": id.title(), **changes})


def tier(name: str = "gold", **changes: Any) -> Tier:
    return Tier(
        **{"name": name, "per_hour": 24, "per_day": 576, "response_s": 60, "top_priority": 0, **changes}
    )


def device(id: str = "pump", **changes: Any) -> Device:
    facts = {
        "id": id,
        "service_point": "",
        "device_class": DeviceClass.POOL_PUMP,
        "name": "Pool",
        "protocol": "modbus",
        "model": "acme-1",
        "address": "127.0.0.1:502/1",
        "rated_w": 750.5,
    }
    return Device(**{**facts, **changes})


def gateway(id: str = "gw-1", **changes: Any) -> Gateway:
    return Gateway(**{"id": id, "partition": partition_of(id), "state": "enrolled", **changes})


def grant(id: str = "g-1", **changes: Any) -> Grant:
    facts: dict[str, Any] = {"id": id, "party": "volt", "service_point": "sp-1", "version": 1, **changes}
    document = GrantDocument(
        grant=id,
        version=facts["version"],
        party=facts["party"],
        service_point=facts["service_point"],
        purpose="comfort",
        devices=[
            DevicePermit(
                device="pump",
                device_class=DeviceClass.POOL_PUMP,
                operations=[Operation.READ, Operation.TURN_ON],
                bounds=Bounds(watts_max=500.0, between=(60, 120)),
            )
        ],
        not_before_us=NOW - DAY,
        expires_us=NOW + 30 * DAY,
        issued_us=NOW - DAY,
    )
    return Grant(**{"state": "live", "tier": "gold", "document": document, "signed": "jws", **facts})


def request(id: str = "", **changes: Any) -> Request:
    at = changes.get("gateway", "gw-1")
    facts = {
        "id": id or new_id(),
        "party": "volt",
        "service_point": "sp-1",
        "gateway": at,
        "partition": partition_of(at),
        "scope": Scope.DEVICE,
        "operation": Operation.READ,
        "grant": "g-1",
        "grant_version": 1,
        "tier": "gold",
        "klass": 11,
        "received_us": NOW,
        "charge_us": NOW,
        "due_us": NOW + 60 * S,
        "warn_us": NOW + 600 * S,
        "act_before_us": NOW + 58 * S,
        "state": "QUEUED",
        "ready_us": NOW,
    }
    return Request(**{**facts, **changes})


def event(id: str = "", **changes: Any) -> Event:
    facts = {
        "id": id or new_id(),
        "party": "volt",
        "kind": "request.result",
        "created_us": NOW,
        "next_us": NOW,
    }
    return Event(**{**facts, **changes})


def journal_row(message: str, *steps: Step, at_us: int = NOW) -> JournalRow:
    return JournalRow(
        message=message,
        at_us=at_us,
        party="volt",
        service_point="sp-1",
        gateway="gw-1",
        device="pump",
        steps=[StepRecord(at_us=at_us, step=step) for step in steps],
    )


def link(kind: LinkKind, a: str, b: str, since_us: int = NOW - DAY, **changes: Any) -> Link:
    return Link(kind=kind, a=a, b=b, since_us=since_us, **changes)


async def settle_home(store: Store) -> None:
    """A home: customer, account, service point, meter, gateway, pool pump, and a third party with a grant."""

    async def step(books: AllBooks) -> None:
        await books.put_tiers([tier()])
        await books.put_parties([party(), party("amp")])
        await books.put_customers([Customer(id="c-1", name="Ada")])
        await books.put_accounts([Account(id="a-1")])
        await books.put_service_points([ServicePoint(id="sp-1", timezone="Europe/Vienna")])
        await books.put_meters([Meter(id="m-1")])
        await books.put_gateways([gateway()])
        await books.put_equipment([device()])
        await books.put_links(
            [
                link(LinkKind.CUSTOMER_ACCOUNT, "c-1", "a-1"),
                link(LinkKind.ACCOUNT_SERVICE_POINT, "a-1", "sp-1"),
                link(LinkKind.SERVICE_POINT_METER, "sp-1", "m-1"),
                link(LinkKind.SERVICE_POINT_GATEWAY, "sp-1", "gw-1"),
                link(LinkKind.DEVICE_SERVICE_POINT, "pump", "sp-1"),
            ]
        )
        await books.put_grants([grant()])

    await store.write(step)


def doing(*steps: Callable[[AllBooks], Awaitable[Any]]) -> Callable[[AllBooks], Awaitable[list[Any]]]:
    """One transaction that does one thing after the other and returns what each returned."""

    async def all_of_it(books: AllBooks) -> list[Any]:
        return [await step(books) for step in steps]

    return all_of_it
