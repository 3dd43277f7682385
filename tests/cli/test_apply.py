"""``doorward apply`` on real databases: the file's state is reached, once."""

import random
import stat
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from msgspec.structs import replace
from typer import Typer
from typer.testing import CliRunner

from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.opening import open_store
from doorward.ccs.ports import AllBooks, Store
from doorward.ccs.rules.facts import Link, LinkKind
from doorward.ccs.settings import AUTHORITY_DIR
from doorward.ccs.setup.plan import changes_only
from doorward.cli.apply import apply, apply_file
from doorward.cli.utility.mistakes import FileWrong
from doorward.cli.utility.reading import read_utility
from doorward.wire.enrolment import code_hash, parse_code
from doorward.wire.grants import lease_until_us
from doorward.wire.signatures import verify
from tests.cli.example import ENVIRON, example
from tests.services import store_engines

TEXT = example()
HOUR_US = 3600 * 1_000_000


class HandClock:
    us = 1_800_000_000_000_000

    def now_us(self) -> int:
        return self.us


class Utility:
    """A database that files are applied to."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.clock = HandClock()

    async def apply(self, text: str = TEXT, *, dry_run: bool = False) -> list[str]:
        read = read_utility(text, self.directory, ENVIRON)
        self.clock.us += HOUR_US
        changes = await apply_file(
            read, self.directory, self.url, self.clock, random.Random(1), dry_run=dry_run
        )
        return [change.words for change in changes_only(changes)]

    async def store(self) -> Store:
        return await open_store(self.url, clock=self.clock)


@pytest.fixture(params=["sqlite", "postgresql"])
def utility(request: pytest.FixtureRequest, tmp_path: Path) -> Utility:
    if request.param not in store_engines():
        pytest.skip("DOORWARD_TEST_ENGINES=embedded")
    if request.param == "sqlite":
        return Utility(tmp_path, f"sqlite:///{tmp_path / 'ccs.sqlite'}")
    return Utility(tmp_path, request.getfixturevalue("postgresql_dsn"))


async def test_the_file_s_state_is_reached_and_a_second_run_changes_nothing(utility: Utility) -> None:
    planned = await utility.apply(dry_run=True)
    made = await utility.apply()
    assert made == planned
    assert len(made) == 21
    assert await utility.apply() == []

    store = await utility.store()

    async def look(books: AllBooks) -> None:
        now_us = utility.clock.now_us()
        place = (await books.places(["SP-1"], now_us))["SP-1"]
        assert (place.gateway, place.timezone, place.parties) == ("GW-1", "America/Toronto", 1)
        assert [device.id for device in (await books.devices_at(["SP-1"]))["SP-1"]] == ["EV-1", "PUMP-1"]
        (credential,) = await books.credentials("brightgrid")
        assert PasswordHasher().verify(credential.value, "hush")
        (grant,) = await books.grants_of("brightgrid")
        keys = LocalConsentAuthority(utility.directory / AUTHORITY_DIR).public_keys()
        assert verify(grant.signed, keys, "grant")
        assert verify(grant.lease_signed, keys, "lease")
        given_us = now_us - HOUR_US
        assert grant.lease_until_us == lease_until_us(grant.id, grant.document.expires_us, given_us)
        events = await books.feed("brightgrid", "", [], 10)
        assert [event.kind for event in events] == ["access.granted"]
        held = (await books.provisioned(["GW-1"]))["GW-1"]
        assert held.gateway.desired_version > held.gateway.applied_version
        assert [each.id for each in held.grants] == [grant.id]

    try:
        await store.read(look)
    finally:
        await store.close()


async def test_looking_changes_nothing(utility: Utility) -> None:
    await utility.apply(dry_run=True)
    assert len(await utility.apply(dry_run=True)) == 21
    assert not (utility.directory / "codes").exists()


async def test_an_enrolment_code_reaches_its_file_and_only_its_hash_the_database(utility: Utility) -> None:
    await utility.apply()
    path = utility.directory / "codes" / "GW-1.code"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code = path.read_text().strip()
    assert parse_code(code).gateway == "GW-1"
    store = await utility.store()
    try:
        gateway = await store.write(lambda books: books.gateway_by_code(code_hash(code)))
    finally:
        await store.close()
    assert gateway is not None
    assert gateway.id == "GW-1"


async def test_a_device_that_moves_keeps_both_links_with_their_dates(utility: Utility) -> None:
    await utility.apply()
    begun_us = utility.clock.us
    moved = TEXT.replace('id = "PUMP-1"\nservice_point = "SP-1"', 'id = "PUMP-1"\nservice_point = "SP-2"')
    moved = moved.replace('[[grant.device]]\nid = "PUMP-1"\noperations = ["read"]\n', "")
    assert await utility.apply(moved) == [
        "end the link of device PUMP-1 to service point SP-1",
        "link device PUMP-1 to service point SP-2 from now on",
        "change the permission of brightgrid at SP-1 (version 2): devices",
    ]
    moved_us = utility.clock.us
    assert await utility.apply(moved) == []
    store = await utility.store()
    try:
        links = await store.read(lambda books: books.links(LinkKind.DEVICE_SERVICE_POINT, a=["PUMP-1"]))
    finally:
        await store.close()
    kind = LinkKind.DEVICE_SERVICE_POINT
    assert links == [
        Link(kind=kind, a="PUMP-1", b="SP-1", since_us=begun_us, until_us=moved_us),
        Link(kind=kind, a="PUMP-1", b="SP-2", since_us=moved_us),
    ]


async def test_a_permission_that_leaves_the_file_is_withdrawn_and_told(utility: Utility) -> None:
    await utility.apply()
    without = TEXT[: TEXT.index("[[grant]]")]
    assert await utility.apply(without) == [
        "withdraw the permission of brightgrid at SP-1 (no longer in the file)",
        "end the contract behind the permission of brightgrid at SP-1",
    ]
    assert await utility.apply(without) == []
    assert await utility.apply() == []  # it stays withdrawn
    again = TEXT.replace('tier = "basic"\nuntil', 'tier = "basic"\nconsent = "form-2"\nuntil')
    assert len(await utility.apply(again)) == 2  # a contract, and the permission that stands on it
    store = await utility.store()
    try:
        grants = await store.read(lambda books: books.grants_of("brightgrid"))
        events = await store.read(lambda books: books.feed("brightgrid", "", [], 10))
    finally:
        await store.close()
    assert sorted(grant.state for grant in grants) == ["live", "withdrawn"]
    assert [event.kind for event in events] == [
        "access.granted",
        "access.withdrawn",
        "contract.ended",
        "access.granted",
    ]


async def test_a_secret_that_changes_is_hashed_anew(
    utility: Utility, monkeypatch: pytest.MonkeyPatch
) -> None:
    await utility.apply()
    monkeypatch.setitem(ENVIRON, "BRIGHTGRID_SECRET", "louder")
    assert await utility.apply() == [
        "end the tokens of third party brightgrid",
        "change the secret of third party brightgrid",
    ]
    assert await utility.apply() == []


# --- the command ------------------------------------------------------------------------------------

runner = CliRunner()
cli = Typer()
cli.command()(apply)


def test_the_command_says_what_it_does(tmp_path: Path) -> None:
    file, directory = tmp_path / "utility.toml", tmp_path / "ccs"
    file.write_text(TEXT)
    arguments = [str(file), "--dir", str(directory)]
    shown = runner.invoke(cli, [*arguments, "--dry-run"], env=ENVIRON)
    assert shown.exit_code == 0, shown.output
    assert shown.output.endswith("21 changes to make\n")
    assert not directory.exists()
    made = runner.invoke(cli, arguments, env=ENVIRON)
    assert made.output.endswith("21 changes made\n")
    assert runner.invoke(cli, arguments, env=ENVIRON).output == "0 changes made\n"


def test_the_command_names_every_mistake_and_touches_nothing(tmp_path: Path) -> None:
    file, directory = tmp_path / "utility.toml", tmp_path / "ccs"
    file.write_text(TEXT.replace("per_day = 576", "per_days = 576").replace("2030-01-01", '"soon"'))
    said = runner.invoke(cli, [str(file), "--dir", str(directory)], env=ENVIRON)
    assert said.exit_code == 2
    lines = said.stderr.splitlines()
    assert [line.partition("utility.toml:")[2].split(":")[0] for line in lines] == ["1", "4", "61"]
    assert "did you mean 'per_day'" in lines[1]
    assert not directory.exists()


def test_a_database_that_is_none_is_an_error_in_words(tmp_path: Path) -> None:
    file = tmp_path / "utility.toml"
    file.write_text(TEXT)
    said = runner.invoke(cli, [str(file), "--dir", str(tmp_path), "--database", "mysql://x/y"], env=ENVIRON)
    assert said.exit_code == 1
    assert "not mysql" in said.stderr


SYSTEMS = """
[[system]]
id = "workorders"
name = "Work orders"
secret_env = "BRIGHTGRID_SECRET"
scopes = ["tests.read", "orders.read"]

[[subscription]]
id = "failed-tests"
system = "workorders"
endpoint = "main"
kinds = ["test"]
failed_only = true
"""


async def test_a_system_and_what_it_is_told_come_from_the_file_and_keep_how_far_they_came(
    utility: Utility,
) -> None:
    said = await utility.apply(TEXT + SYSTEMS)
    assert {"add system workorders", "add subscription failed-tests"} <= set(said)
    assert await utility.apply(TEXT + SYSTEMS) == []

    store = await utility.store()
    (made,) = await store.read(lambda books: books.subscriptions())
    await store.write(lambda books: books.put_subscriptions([replace(made, cursor="0.5", attempts=3)]))
    await store.close()
    await utility.apply(TEXT + SYSTEMS.replace("failed_only = true", "failed_only = false"))

    store = await utility.store()
    (changed,) = await store.read(lambda books: books.subscriptions())
    party = (await store.read(lambda books: books.parties(["workorders"])))["workorders"]
    await store.close()
    assert (changed.cursor, changed.attempts, changed.failed_only) == ("0.5", 3, False)
    assert (party.kind, party.scopes) == ("system", ["tests.read", "orders.read"])


def test_mistakes_about_systems_are_named(tmp_path: Path) -> None:
    wrong = SYSTEMS.replace('"tests.read"', '"test.read"').replace('["test"]', '["tests"]')
    wrong = wrong.replace('system = "workorders"', 'system = "workorder"')
    with pytest.raises(FileWrong) as found:
        read_utility(TEXT + wrong, tmp_path, ENVIRON)
    said = str(found.value)
    assert "no scope 'test.read'; did you mean 'tests.read'?" in said
    assert "no kind 'tests'; did you mean 'test'?" in said
    assert "there is no system 'workorder'; did you mean 'workorders'?" in said
