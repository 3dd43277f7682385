"""What every link promises, whichever it is."""

import asyncio
import random
from contextlib import suppress

import pytest

from doorward.wire.codec import FRAME_BYTES_MAX
from tests.engines.link.rigs import ALWAYS_S, Home, Late, Rig, eventually

FRAMES = 50


async def test_frames_go_both_ways_in_the_order_of_a_quiet_link(rig: Rig) -> None:
    home = await rig.home("gw-1")
    wanted = [f"frame {n}".encode() for n in range(FRAMES)]
    for frame in wanted:
        assert rig.link.send("gw-1", frame)
        await home.uplink.send(frame)
    await eventually(lambda: len(home.frames) == FRAMES and len(rig.desk.frames) == FRAMES)
    assert home.frames == wanted
    assert rig.desk.heard("gw-1") == wanted


async def test_two_gateways_at_once_do_not_mix(rig: Rig) -> None:
    homes = [await rig.home("gw-1"), await rig.home("gw-2")]

    async def talk(home: Home) -> None:
        for n in range(FRAMES):
            assert rig.link.send(home.name, f"to {home.name}: {n}".encode())
            await home.uplink.send(f"from {home.name}: {n}".encode())

    await asyncio.gather(*(talk(home) for home in homes))
    await eventually(lambda: len(rig.desk.frames) == 2 * FRAMES)
    for home in homes:
        await eventually(lambda home=home: len(home.frames) == FRAMES)  # type: ignore[misc]
        assert home.frames == [f"to {home.name}: {n}".encode() for n in range(FRAMES)]
        assert rig.desk.heard(home.name) == [f"from {home.name}: {n}".encode() for n in range(FRAMES)]


async def test_a_gateway_cannot_speak_as_another(rig: Rig) -> None:
    honest = await rig.home("gw-honest")
    thief = rig.certify("gw-thief")
    await rig.speak_as(thief, "gw-honest", b"forged")
    await rig.speak_as(thief, "gw-away", b"forged")
    await honest.uplink.send(b"mine")
    assert rig.link.send("gw-honest", b"yours")
    await eventually(lambda: b"mine" in rig.desk.heard("gw-honest") and b"yours" in honest.frames)
    assert rig.desk.heard("gw-honest") == [b"mine"]
    assert rig.desk.heard("gw-away") == []
    assert "gw-away" not in rig.link.connected()
    assert honest.frames == [b"yours"]
    assert honest.losses == 0


async def test_a_good_certificate_is_taken(rig: Rig) -> None:
    assert await rig.is_taken(rig.certify("gw-1"))


async def test_nobody_is_taken_without_a_certificate(rig: Rig) -> None:
    assert not await rig.is_taken(None)


async def test_a_certificate_of_another_authority_is_refused(rig: Rig) -> None:
    assert not await rig.is_taken(rig.from_another_authority("gw-1"))


async def test_a_certificate_that_has_run_out_is_refused(rig: Rig) -> None:
    assert not await rig.is_taken(rig.expired("gw-1"))


async def test_a_certificate_for_servers_is_refused(rig: Rig) -> None:
    assert not await rig.is_taken(rig.for_servers_only("gw-1"))


async def test_a_revoked_certificate_is_refused_and_others_are_not(rig: Rig) -> None:
    revoked, good = rig.certify("gw-1"), rig.certify("gw-2")
    assert await rig.is_taken(revoked)
    await rig.revoke("gw-1")
    async with asyncio.timeout(20):
        while await rig.is_taken(revoked):  # noqa: ASYNC110 - a broker reads its list when it likes
            await asyncio.sleep(0.05)
    assert await rig.is_taken(good)


async def test_a_gateway_does_not_connect_to_a_server_of_another_authority(rig: Rig) -> None:
    good = rig.certify("gw-1")
    other = rig.from_another_authority("gw-1")
    trusting_another = type(good)(
        good.certificate, good.key, (rig.directory / "other-ca" / "ca.pem").read_text()
    )
    assert other.ca != trusting_another.ca
    home = Home("gw-1", rig.uplink("gw-1", trusting_another, rig.port, random.Random(1), 0.01))
    rig.homes.append(home)
    neighbour = await rig.home("gw-2")
    for n in range(FRAMES):
        await neighbour.uplink.send(str(n).encode())
        await asyncio.sleep(0)
    await eventually(lambda: len(rig.desk.heard("gw-2")) == FRAMES)
    assert home.connects == 0


async def test_who_is_there_is_known(rig: Rig) -> None:
    assert not rig.link.send("gw-1", b"nobody is there")
    home = await rig.home("gw-1")
    assert list(rig.link.connected()) == ["gw-1"]
    await home.leave()
    await eventually(lambda: rig.desk.presences == [("gw-1", True), ("gw-1", False)])
    assert not rig.link.connected()
    assert not rig.link.send("gw-1", b"nobody is there")


async def test_a_gateway_that_dies_is_gone_and_comes_back(rig: Rig) -> None:
    pipe = await rig.pipe()
    home = await rig.home("gw-1", port=pipe.port)
    pipe.cut()
    await eventually(lambda: ("gw-1", False) in rig.desk.presences)
    await eventually(lambda: home.losses == 1 and home.connects == 2)
    await eventually(lambda: "gw-1" in rig.link.connected())
    await home.uplink.send(b"back")
    await eventually(lambda: rig.desk.heard("gw-1") == [b"back"])


async def test_everybody_comes_back_after_the_server_died_with_all_that_it_knew(rig: Rig) -> None:
    homes = [await rig.home(f"gw-{n}") for n in range(3)]
    await rig.crash()
    await eventually(lambda: not rig.link.connected() and all(home.losses == 1 for home in homes))
    for home in homes:
        assert not rig.link.send(home.name, b"nobody is there")
        with pytest.raises(ConnectionError):
            await home.uplink.send(b"nobody is there")
    await rig.recover()
    await eventually(lambda: len(rig.link.connected()) == 3)
    for home in homes:
        await eventually(lambda home=home: home.connects == 2)  # type: ignore[misc]
        assert rig.link.send(home.name, b"down")
        await home.uplink.send(b"up")
        await eventually(lambda home=home: home.frames == [b"down"])  # type: ignore[misc]
        await eventually(lambda home=home: rig.desk.heard(home.name) == [b"up"])  # type: ignore[misc]


async def test_a_second_session_replaces_the_first(rig: Rig) -> None:
    credentials = rig.certify("gw-1")
    first = await rig.home("gw-1", credentials=credentials, rng=Late(), first_wait_s=ALWAYS_S)
    second = await rig.home("gw-1", credentials=credentials)
    await eventually(lambda: first.losses == 1)
    assert rig.desk.presences == [("gw-1", True), ("gw-1", False), ("gw-1", True)]
    assert rig.link.send("gw-1", b"for the second")
    await eventually(lambda: second.frames == [b"for the second"])
    assert first.frames == []
    with pytest.raises(ConnectionError):
        await first.uplink.send(b"from the first")
    assert list(rig.link.connected()) == ["gw-1"]


async def test_a_half_open_link_is_noticed_on_both_sides(rig: Rig) -> None:
    pipe = await rig.pipe()
    home = await rig.home("gw-1", port=pipe.port)
    pipe.freeze()
    await eventually(lambda: ("gw-1", False) in rig.desk.presences)
    await eventually(lambda: home.losses == 1)
    pipe.thaw()
    await eventually(lambda: "gw-1" in rig.link.connected() and home.connects >= 2)


async def test_garbage_and_giants_disturb_nobody_else(rig: Rig) -> None:
    good = await rig.home("gw-good")
    bad = rig.certify("gw-bad")
    await rig.scribble(bad, b"\x00\xff" * 5000)
    await rig.scribble(bad, b"GET / HTTP/1.1\r\n\r\n")
    await rig.shout(bad, "gw-bad", b"x" * (FRAME_BYTES_MAX + 4096))
    await good.uplink.send(b"still here")
    assert rig.link.send("gw-good", b"still here")
    await eventually(lambda: good.frames == [b"still here"])
    await eventually(lambda: rig.desk.heard("gw-good") == [b"still here"])
    assert rig.desk.heard("gw-bad") == []
    assert good.losses == 0


async def test_the_largest_frame_passes_both_ways(rig: Rig) -> None:
    home = await rig.home("gw-1")
    largest = random.Random(1).randbytes(FRAME_BYTES_MAX)
    await home.uplink.send(largest)
    assert rig.link.send("gw-1", largest)
    await eventually(lambda: home.frames == [largest] and rig.desk.heard("gw-1") == [largest])


async def test_a_frame_that_is_not_taken_costs_no_other_frame(rig: Rig) -> None:
    home = await rig.home("gw-1")
    await home.uplink.send(b"break")
    await home.uplink.send(b"next")
    assert rig.link.send("gw-1", b"break")
    assert rig.link.send("gw-1", b"next")
    await eventually(lambda: home.frames == [b"next"] and rig.desk.heard("gw-1") == [b"next"])
    assert home.losses == 0


async def test_a_reader_that_stands_still_is_said_no_to_and_others_go_on(rig: Rig) -> None:
    pipe = await rig.pipe()
    slow = await rig.home("gw-slow", port=pipe.port)
    quick = await rig.home("gw-quick")
    pipe.freeze()
    frame = b"x" * 65536
    taken = 0
    while rig.link.send("gw-slow", frame):
        taken += 1
        assert taken < 2000, "the link takes without a bound"
    await eventually(lambda: rig.link.send("gw-quick", b"go on"))
    await eventually(lambda: quick.frames == [b"go on"])
    assert slow.frames.count(frame) < taken


async def test_a_gateway_that_was_dropped_is_heard_no_more(rig: Rig) -> None:
    dropped, other = await rig.home("gw-1"), await rig.home("gw-2")
    await rig.revoke("gw-1")
    await rig.link.drop("gw-1")
    assert list(rig.link.connected()) == ["gw-2"]
    assert ("gw-1", False) in rig.desk.presences
    assert not rig.link.send("gw-1", b"not for you")
    with suppress(ConnectionError):
        await dropped.uplink.send(b"not from me")
    await other.uplink.send(b"after it")
    await eventually(lambda: rig.desk.heard("gw-2") == [b"after it"])
    assert rig.desk.heard("gw-1") == []
    assert dropped.frames == []


async def test_stopping_twice_is_stopping(rig: Rig) -> None:
    await rig.home("gw-1")
    await rig.link.stop()
    await rig.link.stop()
    assert not rig.link.connected()
