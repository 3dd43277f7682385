from msgspec.structs import replace

from doorward.ccs.rules.facts import FAR_US, LinkKind, Place, ServicePoint
from tests.engines.store.records import DAY, NOW, device, doing, gateway, grant, link, party, tier
from tests.engines.store.rigs import Rig, contend


async def test_third_parties_come_back_as_they_were_put_and_unknown_ones_are_left_out(rig: Rig) -> None:
    whole = party(
        auth="private_key_jwt",
        scopes=["monitor"],
        keys={"k1": {"kty": "OKP", "x": "abc"}},
        signature_required=True,
        tokens_not_before_us=NOW,
        contact="ops@volt.example",
    )
    await rig.store.write(lambda books: books.put_parties([whole, party("amp")]))
    assert await rig.store.read(lambda books: books.parties(["volt", "nobody"])) == {"volt": whole}


async def test_a_suspension_acts_in_the_next_transaction(home: Rig) -> None:
    await home.store.read(lambda books: books.parties(["volt"]))
    await home.other.write(lambda books: books.put_parties([party(state="suspended")]))
    parties = await home.store.write(lambda books: books.parties(["volt"]))
    assert parties["volt"].state == "suspended"


async def test_a_place_has_its_live_gateway_and_counts_who_shares_it(home: Rig) -> None:
    await home.store.write(lambda books: books.put_grants([grant("g-2", party="amp")]))
    places = await home.store.read(lambda books: books.places(["sp-1", "sp-9"], NOW))
    assert places == {
        "sp-1": Place(
            service_point="sp-1",
            gateway="gw-1",
            partition=gateway().partition,
            timezone="Europe/Vienna",
            parties=2,
        )
    }


async def test_withdrawn_and_ended_grants_share_nothing(home: Rig) -> None:
    await home.store.write(
        lambda books: books.put_grants([grant("g-2", party="amp", state="withdrawn"), grant()])
    )
    before = await home.store.read(lambda books: books.places(["sp-1"], NOW))
    after = await home.store.read(lambda books: books.places(["sp-1"], NOW + 31 * DAY))
    assert (before["sp-1"].parties, after["sp-1"].parties) == (1, 0)


async def test_a_service_point_without_a_gateway_at_that_moment_is_left_out(home: Rig) -> None:
    await home.store.write(
        lambda books: books.end_links(LinkKind.SERVICE_POINT_GATEWAY, [("sp-1", "gw-1")], NOW + DAY)
    )
    today = await home.store.read(lambda books: books.places(["sp-1"], NOW + DAY - 1))
    tomorrow = await home.store.read(lambda books: books.places(["sp-1"], NOW + DAY))
    assert (set(today), set(tomorrow)) == ({"sp-1"}, set())


async def test_a_device_is_live_only_while_its_link_is(home: Rig) -> None:
    kind = LinkKind.DEVICE_SERVICE_POINT
    await home.store.write(
        doing(
            lambda books: books.put_equipment([device("car")]),
            lambda books: books.put_links([link(kind, "car", "sp-1", NOW + DAY)]),
            lambda books: books.end_links(kind, [("pump", "sp-1")], NOW + DAY),
        )
    )
    today = await home.store.read(lambda books: books.devices(["pump", "car"]))
    home.clock.us = NOW + DAY
    tomorrow = await home.store.read(lambda books: books.devices(["pump", "car"]))
    assert today == {"pump": device(service_point="sp-1")}
    assert tomorrow == {"car": device("car", service_point="sp-1")}


async def test_devices_of_a_home_come_ordered_by_id(home: Rig) -> None:
    kind = LinkKind.DEVICE_SERVICE_POINT
    await home.store.write(
        doing(
            lambda books: books.put_equipment([device("zebra"), device("Ant"), device("boiler")]),
            lambda books: books.put_links([link(kind, id, "sp-1") for id in ("zebra", "Ant", "boiler")]),
        )
    )
    found = await home.store.read(lambda books: books.devices_at(["sp-1", "sp-9"]))
    assert [each.id for each in found["sp-1"]] == ["Ant", "boiler", "pump", "zebra"]
    assert set(found) == {"sp-1"}


async def test_the_newest_grant_of_a_pair_is_the_live_one_or_the_last_that_changed(home: Rig) -> None:
    pair = ("volt", "sp-1")
    withdrawn = replace(grant(), state="withdrawn", version=2, changed_us=NOW)
    await home.store.write(lambda books: books.put_grants([withdrawn]))
    ended = await home.store.read(lambda books: books.grants([pair, ("amp", "sp-1")]))
    await home.store.write(lambda books: books.put_grants([grant("g-9")]))
    await home.store.write(lambda books: books.put_grants([withdrawn]))
    renewed = await home.store.read(lambda books: books.grants([pair]))
    assert {key: each.state for key, each in ended.items()} == {pair: "withdrawn"}
    assert ended[pair] == replace(withdrawn, sequence=ended[pair].sequence)
    assert renewed[pair].id == "g-9"


async def test_tiers_are_found_by_name(home: Rig) -> None:
    await home.store.write(lambda books: books.put_tiers([tier("silver", per_hour=12)]))
    tiers = await home.store.read(lambda books: books.tiers())
    assert tiers == {"gold": tier(), "silver": tier("silver", per_hour=12)}


async def test_revoked_tokens_and_used_proofs_are_remembered_until_their_time(rig: Rig) -> None:
    first, second = [
        await rig.store.write(lambda books: books.use_proofs({"p1": NOW + 1, "p2": NOW + DAY})),
        await rig.store.write(lambda books: books.use_proofs({"p2": NOW + DAY, "p3": NOW + DAY})),
    ]
    await rig.store.write(lambda books: books.revoke_tokens({"t1": NOW + 1, "t2": NOW + DAY}))
    assert (first, second) == (set(), {"p2"})
    assert await rig.store.read(lambda books: books.revoked_tokens(["t1", "t2", "t3"])) == {"t1", "t2"}
    assert await rig.store.write(lambda books: books.prune(NOW + 2)) == 2
    assert await rig.store.read(lambda books: books.revoked_tokens(["t1", "t2"])) == {"t2"}
    assert await rig.store.write(lambda books: books.use_proofs({"p1": NOW + 9, "p2": NOW + 9})) == {"p2"}


async def test_of_two_that_use_a_proof_at_once_one_is_told_that_it_was_used(rig: Rig) -> None:
    seen = await contend(
        rig,
        lambda books: books.use_proofs({"p": NOW + DAY}),
        lambda books: books.use_proofs({"p": NOW + DAY}),
    )
    assert sorted(map(len, seen)) == [0, 1]


async def test_service_off_shows_in_the_place(home: Rig) -> None:
    await home.store.write(lambda books: books.put_service_points([ServicePoint(id="sp-1", service="off")]))
    places = await home.store.read(lambda books: books.places(["sp-1"], FAR_US - 1))
    assert places["sp-1"].service == "off"
