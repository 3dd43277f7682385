"""What a third party reads of devices, limits, formats and permissions."""

from msgspec.structs import replace

from doorward.ccs.rules.facts import ServicePoint
from tests.ccs.doors.service import Service


async def test_devices_come_with_what_may_be_asked_of_them(service: Service) -> None:
    items = (await service.get("/v1/devices")).json["items"]
    one = (await service.get("/v1/devices/TH-1")).json
    none = (await service.get("/v1/devices?service_point=SP-OTHER")).json["items"]

    assert {item["id"] for item in items} == {"TH-1", "EV-1"}
    assert one in items
    assert one["class"] == "thermostat"
    assert one["operations"] == ["read", "setpoint"]
    assert one["formats"] == ["thermostat.read/1", "thermostat.setpoint/1"]
    assert one["bounds"] == {"celsius_min": 16.0, "celsius_max": 26.0}
    assert none == []


async def test_a_device_of_others_and_none_look_the_same(service: Service) -> None:
    seen = set()
    for id in ("TH-1", "NOWHERE"):
        reply = await service.get(f"/v1/devices/{id}", token=service.token("sun"))
        seen.add((reply.status, reply.body.replace(reply.headers["x-request-id"].encode(), b"")))

    assert len(seen) == 1


async def test_devices_go_with_the_permission_and_with_the_service(service: Service) -> None:
    await service.app.store.write(
        lambda books: books.put_service_points([ServicePoint(id="SP-1", service="off")])
    )
    off = (await service.get("/v1/devices")).json["items"]
    await service.app.store.write(lambda books: books.put_service_points([ServicePoint(id="SP-1")]))
    on = (await service.get("/v1/devices")).json["items"]
    await service.town.withdraw()
    withdrawn = (await service.get("/v1/devices")).json["items"]

    assert [len(items) for items in (off, on, withdrawn)] == [0, 2, 0]


async def test_the_limits_count_down_in_the_tightest_of_each_window(service: Service) -> None:
    await service.app.store.write(lambda books: books.put_grants([service.town.grant("sun", 1)]))
    await service.post()
    hour, day = (await service.get("/v1/limits?service_point=SP-1")).json["windows"]
    others = (await service.get("/v1/limits?service_point=SP-1", token=service.token("sun"))).json

    assert (hour["window_s"], hour["limit"], hour["remaining"]) == (3600, 12, 10)
    assert (day["window_s"], day["limit"], day["remaining"]) == (86400, 288, 286)
    assert others["windows"][0]["remaining"] == 12
    assert others["tier"] == {"name": "gold", "per_hour": 24, "per_day": 576, "response_s": 60}


async def test_limits_are_told_only_where_there_is_a_permission(service: Service) -> None:
    foreign = await service.get("/v1/limits?service_point=SP-1", token=service.token("sun"))
    nowhere = await service.get("/v1/limits?service_point=SP-9")
    nothing = await service.get("/v1/limits")

    assert (foreign.reason, nowhere.reason) == ("not-found", "not-found")
    assert (nothing.reason, nothing.json["field"]) == ("body-malformed", "/service_point")


async def test_formats_are_listed_and_a_retired_one_is_shown_and_refused(service: Service) -> None:
    _, rows = await service.app.store.read(lambda books: books.formats())
    retired = next(row for row in rows if row.name == "thermostat.read")
    await service.app.store.write(lambda books: books.put_formats([replace(retired, state="retired")]))
    await service.app._load_catalogue()
    listed = (await service.get("/v1/formats")).json["items"]
    one = (await service.get("/v1/formats/thermostat.read/1")).json
    named = await service.post({"device": "TH-1", "operation": "read", "format": "thermostat.read/1"})
    missing = await service.get("/v1/formats/thermostat.read/2")

    assert "thermostat.read" not in {item["name"] for item in listed}
    assert all(item["state"] == "active" and item["request"]["type"] == "object" for item in listed)
    assert one["state"] == "retired"
    assert (named.status, named.reason) == (422, "format-version-retired")
    assert missing.reason == "not-found"


async def test_permissions_are_a_feed_of_changes(service: Service) -> None:
    first = (await service.get("/v1/grants")).json
    await service.town.withdraw()
    changed = (await service.get(f"/v1/grants?after={first['items'][-1]['sequence']}")).json
    nothing = (await service.get(f"/v1/grants?after={changed['items'][-1]['sequence']}")).json

    assert [item["state"] for item in first["items"]] == ["live"]
    assert [item["state"] for item in changed["items"]] == ["withdrawn"]
    assert changed["items"][0]["devices"][0]["id"] == "TH-1"
    assert nothing == {"items": [], "next": None}
