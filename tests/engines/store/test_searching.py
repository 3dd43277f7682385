"""Homes are found by the words of what belongs to them, over every engine."""

import pytest
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Account, Customer, Device, Link, LinkKind, ServicePoint
from doorward.ccs.rules.searching import asked
from doorward.wire.vocabulary import DeviceClass
from tests.engines.store.records import NOW
from tests.engines.store.rigs import Rig

HOMES = {
    "sp-a": ("C-100", "José Núñez-O'Brien", "14 Alder Road", "WH-7781"),
    "sp-b": ("C-101", "Maria Lopez", "2 Alder Road", "TH-55"),
    "sp-c": ("C-102", "李小龍 🏠", "9 Birch Lane", "TH-56"),
}


async def settle(books: AllBooks) -> None:
    for point, (customer, name, address, serial) in HOMES.items():
        account, device = f"A-{customer}", f"dev-{serial}"
        await books.put_customers([Customer(id=customer, name=name, contact="m@example.org")])
        await books.put_accounts([Account(id=account)])
        await books.put_service_points([ServicePoint(id=point, address=address)])
        await books.put_equipment(
            [
                Device(
                    id=device,
                    service_point="",
                    device_class=DeviceClass.THERMOSTAT,
                    name="",
                    protocol="modbus",
                    model="m",
                    address="",
                    serial=serial,
                )
            ]
        )
        pairs = [
            (LinkKind.CUSTOMER_ACCOUNT, customer, account),
            (LinkKind.ACCOUNT_SERVICE_POINT, account, point),
            (LinkKind.DEVICE_SERVICE_POINT, device, point),
        ]
        await books.put_links([Link(kind=kind, a=a, b=b, since_us=NOW - 10) for kind, a, b in pairs])


async def found(rig: Rig, text: str, **more: object) -> list[str]:
    return await rig.store.read(lambda books: books.find_homes(asked(text), **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "homes"),
    [
        ("jose", ["sp-a"]),
        ("NÚÑEZ", ["sp-a"]),
        ("o'brien", ["sp-a"]),
        ("brien", ["sp-a"]),
        ("lopez maria", ["sp-b"]),
        ("lopez alder", ["sp-b"]),
        ("lopez birch", []),
        ("alder", ["sp-a", "sp-b"]),
        ("alder 14", ["sp-a"]),
        ("李小", ["sp-c"]),
        ("C-101", ["sp-b"]),
        ("a-c-102", ["sp-c"]),
        ("sp-b", ["sp-b"]),
        ("wh-7781", ["sp-a"]),
        ("dev-th", ["sp-b", "sp-c"]),
        ("100%", []),
        ("zz' OR 1=1", []),
    ],
)
async def test_a_home_is_found_by_what_belongs_to_it(rig: Rig, text: str, homes: list[str]) -> None:
    await rig.store.write(settle)
    assert await found(rig, text) == homes


async def test_a_page_goes_on_after_the_one_before(rig: Rig) -> None:
    await rig.store.write(settle)
    assert await found(rig, "alder", limit=1) == ["sp-a"]
    assert await found(rig, "alder", limit=1, after="sp-a") == ["sp-b"]


async def test_whoever_has_moved_out_is_not_found_there_and_an_old_name_finds_nothing(rig: Rig) -> None:
    await rig.store.write(settle)

    async def change(books: AllBooks) -> None:
        await books.end_links(LinkKind.ACCOUNT_SERVICE_POINT, [("A-C-101", "sp-b")], NOW - 1)
        known = (await books.customers(["C-100"]))["C-100"]
        await books.put_customers([replace(known, name="Ada King")])

    await rig.store.write(change)
    assert await found(rig, "lopez") == []
    assert await found(rig, "jose") == []
    assert await found(rig, "ada") == ["sp-a"]
