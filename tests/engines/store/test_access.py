import asyncio

from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Credential, FormatRow, Grant, Provisioned
from doorward.wire.topics import partition_of
from tests.engines.store.records import DAY, HOUR, NOW, device, doing, gateway, grant, request
from tests.engines.store.rigs import Rig


async def desired(rig: Rig, id: str = "gw-1") -> int:
    return (await rig.store.read(lambda books: books.gateways([id])))[id].desired_version


async def test_a_grant_comes_back_whole_with_the_next_sequence(home: Rig) -> None:
    whole = grant(version=2, lease_until_us=NOW + DAY, lease_signed="lease", changed_us=NOW, sequence=999)
    before = (await home.store.read(lambda books: books.grants_of("volt")))[0]
    await home.store.write(lambda books: books.put_grants([whole]))
    after = await home.store.read(lambda books: books.grants_of("volt"))
    assert after == [replace(whole, sequence=before.sequence + 1)]


async def test_a_change_of_a_grant_makes_its_gateway_due_for_provisioning(home: Rig) -> None:
    before = await desired(home)
    await home.store.write(lambda books: books.applied({"gw-1": before}, NOW))
    assert await home.store.read(lambda books: books.unprovisioned(None, 10)) == []
    await home.store.write(lambda books: books.put_grants([grant(version=2)]))
    mine, others = [partition_of("gw-1")], [partition_of("gw-1") + 1]
    assert await desired(home) == before + 1
    assert await home.store.read(lambda books: books.unprovisioned(None, 10)) == ["gw-1"]
    assert await home.store.read(lambda books: books.unprovisioned(mine, 10)) == ["gw-1"]
    assert await home.store.read(lambda books: books.unprovisioned(others, 10)) == []


async def test_an_applied_version_never_goes_back(home: Rig) -> None:
    await home.store.write(lambda books: books.applied({"gw-1": 9}, NOW))
    await home.store.write(lambda books: books.applied({"gw-1": 8, "gw-9": 1}, NOW + 1))
    found = (await home.store.read(lambda books: books.gateways(["gw-1"])))["gw-1"]
    assert (found.applied_version, found.applied_us) == (9, NOW + 1)


async def test_gateways_seen_last_come_first_and_those_not_enrolled_not_at_all(rig: Rig) -> None:
    await rig.store.write(
        lambda books: books.put_gateways(
            [
                gateway("gw-1", desired_version=1, seen_us=5),
                gateway("gw-2", desired_version=1, seen_us=9),
                gateway("gw-3", desired_version=1, state="expected"),
                gateway("gw-4"),
            ]
        )
    )
    assert await rig.store.read(lambda books: books.unprovisioned(None, 10)) == ["gw-2", "gw-1"]
    assert await rig.store.read(lambda books: books.unprovisioned(None, 1)) == ["gw-2"]


async def test_a_gateway_is_told_its_live_grants_and_those_that_ended_lately(home: Rig) -> None:
    ended = grant("g-2", party="amp", state="withdrawn", changed_us=NOW - HOUR)
    await home.store.write(
        doing(
            lambda books: books.put_grants(
                [ended, grant("g-3", party="amp", state="withdrawn", changed_us=NOW - 9 * DAY)]
            ),
            lambda books: books.applied({"gw-1": 1}, NOW),
        )
    )
    found = await home.store.read(lambda books: books.provisioned(["gw-1", "gw-9"]))
    at = (await home.store.read(lambda books: books.gateways(["gw-1"])))["gw-1"]
    assert set(found) == {"gw-1"}
    assert [each.id for each in found["gw-1"].grants] == ["g-1", "g-2"]
    assert replace(found["gw-1"], grants=[]) == Provisioned(
        gateway=at, service_points=["sp-1"], devices=[device(service_point="sp-1")], grants=[]
    )


async def test_the_change_feed_of_grants_goes_on_after_a_sequence(home: Rig) -> None:
    await home.store.write(
        lambda books: books.put_grants(
            [grant("g-2", party="amp"), grant(version=2), grant("g-4", state="withdrawn")]
        )
    )
    first = await home.store.read(lambda books: books.grants_of("volt", limit=1))
    rest = await home.store.read(lambda books: books.grants_of("volt", after=first[-1].sequence))
    assert [each.id for each in (*first, *rest)] == ["g-1", "g-4"]


async def test_the_change_feed_of_grants_skips_none_that_commits_late(home: Rig) -> None:
    seen: list[Grant] = []
    others: list[asyncio.Task[None]] = []

    async def look() -> None:
        after = seen[-1].sequence if seen else -1
        seen.extend(await home.store.read(lambda books: books.grants_of("amp", after=after)))

    async def meanwhile() -> None:
        newer = home.other.write(
            lambda books: books.put_grants([grant("g-3", party="amp", state="withdrawn")])
        )
        others.append(asyncio.create_task(newer))
        await asyncio.sleep(0.1)
        await look()

    await home.overlapping(
        lambda books: books.put_grants([grant("g-2", party="amp", state="withdrawn")]), meanwhile
    )
    await asyncio.gather(*others)
    await look()
    assert sorted(each.id for each in seen) == ["g-2", "g-3"]
    assert seen[0].sequence < seen[1].sequence


async def test_leases_that_end_soon_are_found_until_they_are_renewed(home: Rig) -> None:
    soon = await home.store.read(lambda books: books.leases_to_renew(NOW + HOUR, 10))
    renewed = replace(soon[0], lease_until_us=NOW + DAY, lease_signed="lease", signed="not this", version=7)
    await home.store.write(lambda books: books.renew_leases([renewed]))
    found = (await home.store.read(lambda books: books.grants([("volt", "sp-1")])))["volt", "sp-1"]
    assert found == replace(soon[0], lease_until_us=NOW + DAY, lease_signed="lease")
    assert await home.store.read(lambda books: books.leases_to_renew(NOW + HOUR, 10)) == []


async def test_leases_that_cannot_be_longer_do_not_stand_before_others(home: Rig) -> None:
    whole = grant(lease_until_us=NOW + 30 * DAY)
    await home.store.write(lambda books: books.put_grants([whole, grant("g-2", party="amp")]))
    home.clock.us = NOW + 29 * DAY
    due = await home.store.read(lambda books: books.leases_to_renew(home.clock.us + 2 * DAY, 1))
    home.clock.us = NOW + 31 * DAY
    ended = await home.store.read(lambda books: books.leases_to_renew(home.clock.us, 1))
    assert ([each.id for each in due], ended) == (["g-2"], [])


async def test_an_enrolment_code_finds_its_gateway_until_it_is_used(rig: Rig) -> None:
    expected = gateway(state="expected", code_hash="abc", code_expires_us=NOW + DAY)
    await rig.store.write(lambda books: books.put_gateways([expected, gateway("gw-2")]))
    found = await rig.store.write(lambda books: books.gateway_by_code("abc"))
    empty = await rig.store.write(lambda books: books.gateway_by_code(""))
    await rig.store.write(lambda books: books.put_gateways([replace(expected, code_hash="")]))
    used = await rig.store.write(lambda books: books.gateway_by_code("abc"))
    assert (found, empty, used) == (expected, None, None)


async def test_of_two_that_use_an_enrolment_code_at_once_one_finds_it_used(rig: Rig) -> None:
    await rig.store.write(lambda books: books.put_gateways([gateway(state="expected", code_hash="abc")]))

    async def enrol(books: AllBooks) -> bool:
        found = await books.gateway_by_code("abc")
        await rig.dawdle()
        if found is None:
            return False
        await books.put_gateways([replace(found, code_hash="", state="enrolled")])
        return True

    won = await asyncio.gather(rig.store.write(enrol), rig.other.write(enrol))
    assert sorted(won) == [False, True]


async def test_the_catalogue_has_a_version_that_grows_only_with_a_change(rig: Rig) -> None:
    first = FormatRow(name="limit", version=1, state="active", document=b'{"type":"object"}')
    second = FormatRow(name="limit", version=2, state="active", document=b"{}")
    begin = await rig.store.read(lambda books: books.formats_version())
    await rig.store.write(lambda books: books.put_formats([second, first]))
    await rig.store.write(lambda books: books.put_formats([first]))
    version, rows = await rig.store.read(lambda books: books.formats())
    await rig.store.write(lambda books: books.put_formats([replace(first, state="retired")]))
    assert rows == [first, second]
    assert (version, await rig.store.read(lambda books: books.formats_version())) == (begin + 1, begin + 2)


async def test_requests_are_listed_newest_first_page_by_page_and_by_filter(rig: Rig) -> None:
    old, middle, new = (
        request(request_id, **changes)
        for request_id, changes in [
            ("01-a", {"device": "pump", "state": "DONE"}),
            ("01-b", {"device": "car", "campaign": "summer", "service_point": "sp-2"}),
            ("01-c", {"device": "pump", "campaign": "summer"}),
        ]
    )
    await rig.store.write(lambda books: books.insert_requests([middle, old, new, request(party="amp")]))

    async def listed(**filters: object) -> list[str]:
        found = await rig.store.read(lambda books: books.list_requests("volt", **filters))  # type: ignore[arg-type]
        return [each.id for each in found]

    assert await listed() == ["01-c", "01-b", "01-a"]
    assert await listed(limit=1) == ["01-c"]
    assert await listed(after="01-c") == ["01-b", "01-a"]
    assert await listed(device="pump") == ["01-c", "01-a"]
    assert await listed(service_point="sp-2") == ["01-b"]
    assert await listed(campaign="summer") == ["01-c", "01-b"]
    assert await listed(states=["DONE", "FAILED"]) == ["01-a"]
    assert await listed(states=["QUEUED"], campaign="summer", device="pump") == ["01-c"]


async def test_credentials_that_have_ended_are_not_found(home: Rig) -> None:
    old = Credential(id="c-1", party="volt", kind="secret", value="argon", not_after_us=NOW)
    live = Credential(id="c-2", party="volt", kind="jwks", value="{}")
    await home.store.write(lambda books: books.put_credentials([old, live]))
    assert await home.store.read(lambda books: books.credentials("volt")) == [live]
