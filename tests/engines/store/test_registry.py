from itertools import pairwise

import pytest

from doorward.ccs.ports import LinkTaken
from doorward.ccs.rules.facts import FAR_US, Account, Customer, Link, LinkKind, Meter, ServicePoint, Thing
from tests.engines.store.records import DAY, NOW, device, doing, gateway, link
from tests.engines.store.rigs import Rig, contend

OCCUPANCY = LinkKind.ACCOUNT_SERVICE_POINT
HOUSING = LinkKind.DEVICE_SERVICE_POINT
SERVING = LinkKind.SERVICE_POINT_GATEWAY


async def desired(rig: Rig, *ids: str) -> list[int]:
    found = await rig.store.read(lambda books: books.gateways(ids))
    return [found[id].desired_version for id in ids]


async def test_things_come_back_as_they_were_put_last(rig: Rig) -> None:
    await rig.store.write(
        doing(
            lambda books: books.put_customers(
                [Customer(id="c-1"), Customer(id="c-1", name="Ada", contact="a@b")]
            ),
            lambda books: books.put_accounts([Account(id="a-1", name="Home")]),
            lambda books: books.put_service_points(
                [ServicePoint(id="sp-1", service="off", address="Road 1")]
            ),
            lambda books: books.put_meters([Meter(id="m-1", serial="9", model="x")]),
            lambda books: books.put_equipment([device(), device(serial="77")]),
        )
    )
    found = await rig.store.read(
        doing(
            lambda books: books.customers(["c-1", "c-2"]),
            lambda books: books.accounts(["a-1"]),
            lambda books: books.service_points(["sp-1"]),
            lambda books: books.meters(["m-1"]),
            lambda books: books.equipment(["pump"]),
        )
    )
    assert found == [
        {"c-1": Customer(id="c-1", name="Ada", contact="a@b")},
        {"a-1": Account(id="a-1", name="Home")},
        {"sp-1": ServicePoint(id="sp-1", service="off", address="Road 1")},
        {"m-1": Meter(id="m-1", serial="9", model="x")},
        {"pump": device(serial="77")},
    ]


async def test_what_is_known_is_listed_in_order_page_by_page(home: Rig) -> None:
    await home.store.write(lambda books: books.put_meters([Meter(id=id) for id in ("m-3", "M-2", "m-0")]))
    first = await home.store.read(lambda books: books.known(Thing.METER, limit=2))
    rest = await home.store.read(lambda books: books.known(Thing.METER, after=first[-1]))
    every = {thing: await home.store.read(lambda books, t=thing: books.known(t)) for thing in Thing}  # type: ignore[misc]
    assert (first, rest) == (["M-2", "m-0"], ["m-1", "m-3"])
    assert every[Thing.TIER] == ["gold"]
    assert every[Thing.PARTY] == ["amp", "volt"]
    assert all(every.values())


async def test_the_next_occupant_begins_where_the_last_one_ended(home: Rig) -> None:
    await home.store.write(
        doing(
            lambda books: books.put_accounts([Account(id="a-2")]),
            lambda books: books.end_links(OCCUPANCY, [("a-1", "sp-1")], NOW),
            lambda books: books.put_links([link(OCCUPANCY, "a-2", "sp-1", NOW)]),
        )
    )
    before = await home.store.read(lambda books: books.links(OCCUPANCY, b=["sp-1"], live_us=NOW - 1))
    after = await home.store.read(lambda books: books.links(OCCUPANCY, b=["sp-1"], live_us=NOW))
    both = await home.store.read(lambda books: books.links(OCCUPANCY))
    none = await home.store.read(lambda books: books.links(OCCUPANCY, a=[]))
    assert before == [link(OCCUPANCY, "a-1", "sp-1", until_us=NOW)]
    assert after == [Link(kind=OCCUPANCY, a="a-2", b="sp-1", since_us=NOW, until_us=FAR_US)]
    assert both == before + after
    assert none == []


async def test_a_second_open_link_is_refused_and_nothing_is_written(home: Rig) -> None:
    await home.store.write(lambda books: books.put_service_points([ServicePoint(id="sp-2")]))
    second = link(HOUSING, "pump", "sp-2", NOW)
    with pytest.raises(LinkTaken, match="pump to sp-2") as taken:
        await home.store.write(lambda books: books.put_links([second]))
    assert taken.value.link == second
    assert await home.store.read(lambda books: books.links(HOUSING)) == [link(HOUSING, "pump", "sp-1")]


async def test_two_open_links_in_one_call_are_refused_too(home: Rig) -> None:
    await home.store.write(
        doing(
            lambda books: books.put_equipment([device("car")]),
            lambda books: books.put_service_points([ServicePoint(id="sp-2")]),
        )
    )
    both = [link(HOUSING, "car", "sp-1"), link(HOUSING, "car", "sp-2")]
    with pytest.raises(LinkTaken):
        await home.store.write(lambda books: books.put_links(both))


async def test_of_two_that_link_one_device_at_once_one_fails(home: Rig) -> None:
    await home.store.write(
        doing(
            lambda books: books.put_equipment([device("car")]),
            lambda books: books.put_service_points([ServicePoint(id="sp-2")]),
        )
    )
    with pytest.raises(LinkTaken):
        await contend(
            home,
            lambda books: books.put_links([link(HOUSING, "car", "sp-1")]),
            lambda books: books.put_links([link(HOUSING, "car", "sp-2")]),
        )
    found = await home.store.read(lambda books: books.links(HOUSING, a=["car"]))
    assert [each.b for each in found] == ["sp-1"]


async def test_putting_a_link_again_changes_nothing_or_moves_its_end(home: Rig) -> None:
    same = link(HOUSING, "pump", "sp-1")
    await home.store.write(lambda books: books.put_links([same]))
    ended = link(HOUSING, "pump", "sp-1", until_us=NOW + DAY)
    assert await home.store.read(lambda books: books.links(HOUSING)) == [same]
    await home.store.write(lambda books: books.put_links([ended]))
    assert await home.store.read(lambda books: books.links(HOUSING)) == [ended]


async def test_ending_counts_the_open_links_only(home: Rig) -> None:
    ended = [
        await home.store.write(lambda books: books.end_links(HOUSING, [("pump", "sp-1"), ("x", "y")], NOW))
        for _ in range(2)
    ]
    assert ended == [1, 0]


async def test_whatever_a_gateway_should_hold_moves_its_desired_version(home: Rig) -> None:
    await home.store.write(lambda books: books.put_gateways([gateway("gw-2")]))
    versions = [await desired(home, "gw-1", "gw-2")]
    for step in (
        lambda books: books.put_equipment([device(address="other:1/1")]),
        lambda books: books.put_service_points([ServicePoint(id="sp-1", service="off")]),
        lambda books: books.end_links(HOUSING, [("pump", "sp-1")], NOW),
        lambda books: books.put_links([link(HOUSING, "pump", "sp-1", NOW)]),
        lambda books: books.end_links(SERVING, [("sp-1", "gw-1")], NOW),
        lambda books: books.put_links([link(SERVING, "sp-1", "gw-2", NOW)]),
    ):
        await home.store.write(step)
        versions.append(await desired(home, "gw-1", "gw-2"))
    moved = [
        "".join("+" if new > old else "=" for old, new in zip(before, after, strict=True))
        for before, after in pairwise(versions)
    ]
    assert moved == ["+=", "+=", "+=", "+=", "+=", "=+"]


async def test_a_device_without_a_link_is_equipment_but_nowhere(rig: Rig) -> None:
    await rig.store.write(lambda books: books.put_equipment([device()]))
    assert await rig.store.read(lambda books: books.equipment(["pump"])) == {"pump": device(service_point="")}
    assert await rig.store.read(lambda books: books.devices(["pump"])) == {}
