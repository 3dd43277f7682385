"""The utility's file: what it means, and how each mistake is named."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from doorward.ccs.rules.facts import LinkKind
from doorward.cli.toml_places import Places
from doorward.cli.utility.mistakes import FileWrong, Problem
from doorward.cli.utility.reading import Read, read_utility
from doorward.cli.utility.tables import TABLES, BoundsTable, OfferTable, PermitTable, Table
from tests.cli.example import ENVIRON, GUIDE, example

TEXT = example()


def read(text: str = TEXT, directory: Path = Path("/nowhere")) -> Read:
    return read_utility(text, directory, ENVIRON)


def mistakes(text: str, directory: Path = Path("/nowhere")) -> list[Problem]:
    with pytest.raises(FileWrong) as caught:
        read(text, directory)
    return caught.value.problems


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_example_means_what_it_says() -> None:
    found = read()
    wanted = found.wanted
    assert [(each.id, each.name, each.rated_w) for each in wanted.devices] == [
        ("EV-1", "Car charger", 7400),
        ("PUMP-1", "PUMP-1", 0),
    ]
    assert (LinkKind.DEVICE_SERVICE_POINT, "EV-1", "SP-1") in wanted.links
    assert (LinkKind.SERVICE_POINT_GATEWAY, "SP-2", "GW-1") in wanted.links
    assert len(wanted.links) == 7
    (grant,) = wanted.grants
    assert grant.id == "file.brightgrid.SP-1.A-1"
    midnight = datetime(2030, 1, 1, tzinfo=ZoneInfo("America/Toronto"))
    assert grant.expires_us == midnight.astimezone(UTC).timestamp() * 1_000_000
    assert grant.permits[0].bounds.between == (18 * 60, 7 * 60)
    assert found.secrets == {"file.brightgrid.secret": "hush"}
    assert found.code_files == {"GW-1": Path("/nowhere/codes/GW-1.code")}


@pytest.mark.parametrize(
    "before, after, field, said",
    [
        ("rated_w = 7400", 'rated_w = "much"', "device[1].rated_w", "Expected `float`"),
        ("rated_w = 7400", "ratedw = 7400", "device[1].ratedw", "did you mean 'rated_w'"),
        ('class = "pool_pump"', 'class = "toaster"', "device[2].class", "toaster"),
        ('class = "pool_pump"\n', "", "device[2].class", "is missing"),
        ('protocol = "modbus"', 'protocol = "zigbee"', "device[2].protocol", "zigbee"),
        ('id = "PUMP-1"\nservice', 'id = "EV-1"\nservice', "device[2].id", "already at line 40"),
        ('service_point = "SP-1"\nclass', 'service_point = "SP-9"\nclass', "device[2].service_point", "'SP-"),
        (
            'service_point = "SP-1"\nname',
            'service_point = "SP-2"\nname',
            "grant[1].device[1].id",
            "not at SP-1",
        ),
        ('customers = ["C-1"]', 'customers = ["C-1", "C-2"]', "account[1].customers[2]", "no customer 'C-2'"),
        ('account = "A-1"', 'account = "A-2"', "service_point[1].account", "did you mean 'A-1'"),
        ('id = "GW-1"', 'id = "G W"', "gateway[1].id", "letters"),
        ("America/Toronto", "America/Tronto", "service_point[1].timezone", "no time zone"),
        ("[[customer]]", "[[costumer]]", "costumer", "did you mean 'customer'"),
        ('tier = "basic"', 'tier = "gold"', "grant[1].tier", "no tier 'gold'"),
        ("until = 2030-01-01", "until = 2030-01-01T00:00:00", "grant[1].until", "no time zone"),
        ("until = 2030-01-01", "until = 2030-01-01\nfrom = 2031-01-01", "grant[1].until", "after 'from'"),
        ("until = 2030-01-01", 'until = "2030"', "grant[1].until", "neither a day"),
        ('"limit", "turn_off"', '"setpoint"', "grant[1].device[1].operations", "not setpoint"),
        ('["read", "limit", "turn_off"]', "[]", "grant[1].device[1].operations", "no operation"),
        ("watts_min = 1400", "wats_min = 1400", "grant[1].device[1].bounds.wats_min", "'watts_min'"),
        ('"18:00"', '"half past"', "grant[1].device[1].bounds.between", "time of day"),
        ('id = "PUMP-1"\noperations', 'id = "EV-1"\noperations', "grant[1].device[2].id", "stands twice"),
        ('secret_env = "BRIGHTGRID_SECRET"', "", "party[1].auth", "needs one of"),
        ("BRIGHTGRID_SECRET", "OTHER", "party[1].secret_env", "has no OTHER"),
        ('secret_env = "BRIGHTGRID_SECRET"', 'secret_file = "x"', "party[1].secret_file", "No such file"),
        ('secret_env = "BRIGHTGRID_SECRET"', 'secret_hash = "md5"', "party[1].secret_hash", "Argon2id"),
    ],
)
def test_a_mistake_is_named_by_line_and_field(before: str, after: str, field: str, said: str) -> None:
    assert before in TEXT
    (problem, *more) = mistakes(TEXT.replace(before, after, 1))
    assert field in [each.field for each in (problem, *more)]
    (found,) = [each for each in (problem, *more) if each.field == field]
    assert said in found.text
    assert found.line > 1


def test_the_line_is_the_one_in_the_file() -> None:
    text = TEXT.replace("rated_w = 7400", "ratedw = 7400").replace('"18:00"', '"late"')
    assert [(each.line, each.field) for each in mistakes(text)] == [
        (line_of(text, "ratedw"), "device[1].ratedw"),
    ]
    text = TEXT.replace('"18:00"', '"late"')
    assert [each.line for each in mistakes(text)] == [line_of(text, "bounds =")]


def test_all_mistakes_are_named_at_once_in_the_order_of_lines() -> None:
    text = TEXT.replace("per_hour = 24", "per_hour = 'x'").replace("America/Toronto", "Mars")
    text = text.replace('["read"]', '["fly"]')
    found = mistakes(text)
    assert [each.field for each in found] == [
        "tier[1].per_hour",
        "service_point[1].timezone",
        "grant[1].device[2].operations",
    ]
    assert [each.line for each in found] == sorted(each.line for each in found)


def test_a_faulty_table_is_not_also_missing() -> None:
    assert [each.field for each in mistakes(TEXT.replace("per_day = 576\n", ""))] == ["tier[1].per_day"]


def test_what_is_no_toml_says_where() -> None:
    (problem,) = mistakes(TEXT.replace("per_hour = 24", "per_hour == 24"))
    assert problem.line == line_of(TEXT, "per_hour")


def test_keys_of_a_third_party_are_checked(tmp_path: Path) -> None:
    right = '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"%s"}]}' % ("A" * 43)
    text = TEXT.replace(
        'secret_env = "BRIGHTGRID_SECRET"',
        'auth = "private_key_jwt"\njwks_file = "k"\ncommand_keys_file = "k"',
    )
    (tmp_path / "k").write_text(right)
    assert read(text, tmp_path).wanted.parties[0].keys["k1"]["crv"] == "Ed25519"
    assert read(text, tmp_path).wanted.credentials[0].kind == "jwks"
    for wrong, said in (
        (right.replace("Ed25519", "X25519"), "not an Ed25519 key"),
        (right.replace('"kid":"k1",', ""), "kid"),
        (right.replace('"kid"', '"d":"AAAA","kid"'), "private key"),
        ("[]", "JWK Set"),
        ('{"keys":[]}', "kid"),
    ):
        (tmp_path / "k").write_text(wrong)
        assert said in "\n".join(each.text for each in mistakes(text, tmp_path))


def test_places_are_found_through_everything_that_toml_allows() -> None:
    text = '''# comment [[not]]
top = 1
[[a]]
x = [
  "]", # ]
  [["a"]]
]
y = """
[[a]]
z = 1
"""
"odd key" = { b = 1 }
[[a.b]]
c.d = "x # y"
[[a]]
x = \'\'\'one line\'\'\'
[[a.b]]
[[a.b]]
c = 2
[t."q.r"]
k = 1
'''
    places = Places(text)
    wanted = {
        ("top",): 2,
        ("a", 0): 3,
        ("a", 0, "x"): 4,
        ("a", 0, "x", 1, 0): 4,
        ("a", 0, "y"): 8,
        ("a", 0, "odd key"): 12,
        ("a", 0, "odd key", "b"): 12,
        ("a", 0, "b", 0): 13,
        ("a", 0, "b", 0, "c", "d"): 14,
        ("a", 1): 15,
        ("a", 1, "x"): 16,
        ("a", 1, "b", 1, "c"): 19,
        ("t", "q.r", "k"): 21,
    }
    assert {path: places.line(path) for path in wanted} == wanted


def test_the_guide_explains_every_key() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    kinds: list[type[Table]] = [*TABLES.values(), OfferTable, PermitTable, BoundsTable]
    keys = {field.encode_name.removesuffix("_") for kind in kinds for field in msgspec.structs.fields(kind)}
    assert sorted(key for key in keys - {"device"} if f"`{key}`" not in guide) == []
    assert [name for name in TABLES if f"`[[{name}]]`" not in guide] == []


def test_in_production_a_company_signs_its_controls_unless_the_file_says_no(tmp_path: Path) -> None:
    """X03: the default; and one that must sign says with which keys."""

    def party(more: str) -> str:
        return f'[[party]]\nid = "a"\nname = "A"\nsecret_env = "S"\n{more}'

    def read(more: str, *, must_sign: bool) -> bool:
        found = read_utility(party(more), tmp_path, {"S": "s"}, must_sign=must_sign)
        return found.wanted.parties[0].signature_required

    with pytest.raises(FileWrong, match="command_keys_file: is missing: third parties sign their controls"):
        read("", must_sign=True)
    key = {"kid": "k", "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    (tmp_path / "keys").write_bytes(msgspec.json.encode({"keys": [key]}))
    assert read('command_keys_file = "keys"', must_sign=True)
    assert not read('command_keys_file = "keys"', must_sign=False)
    assert not read("signature_required = false", must_sign=True)
    assert not read('scopes = ["monitor"]', must_sign=True)
