"""Read a utility's file into what is wanted."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from doorward.ccs.rules.facts import Account, Customer, Meter, Tier
from doorward.ccs.setup.plan import Wanted
from doorward.cli.toml_places import Path as Place
from doorward.cli.utility.grants import grants_of
from doorward.cli.utility.mistakes import FileWrong, Problem, Refs, fields_of, near, row_of
from doorward.cli.utility.parties import credentials_of, party_of
from doorward.cli.utility.people import offers_of, people_of
from doorward.cli.utility.places import device_of, links_of, service_point_of
from doorward.cli.utility.systems import subscriptions_of, systems_of
from doorward.cli.utility.tables import TABLES
from doorward.wire.enrolment import is_gateway_id

FILE_BYTES_MAX = 16 * 1024 * 1024
ID_CHARS_MAX = 64


class Read(msgspec.Struct, frozen=True):
    """A file that is right: what is wanted, secrets still to be hashed, and where codes are to be written."""

    wanted: Wanted
    secrets: dict[str, str]
    code_files: dict[str, Path]


def read_utility(
    text: str, directory: Path, environ: Mapping[str, str] | None = None, *, must_sign: bool = False
) -> Read:
    """Return what a file describes; raise :class:`FileWrong` with all its mistakes.

    Other files that it names are relative to ``directory``; ``environ`` has the secrets of ``secret_env``.
    ``must_sign``: third parties sign their controls unless the file says otherwise (production).
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileWrong([_not_toml(error)]) from None
    except RecursionError:
        raise FileWrong([Problem(1, "(file)", "not TOML that is read here: it nests too deeply")]) from None
    refs = Refs(text, directory, os.environ if environ is None else environ, must_sign=must_sign)
    _read_tables(refs, document)
    _unique(refs)
    secrets, credentials = credentials_of(refs)
    wanted = Wanted(
        tiers=[Tier(**fields_of(row)) for _, row in refs.rows["tier"]],
        parties=[party_of(refs, place, row) for place, row in refs.rows["party"]] + systems_of(refs),
        subscriptions=subscriptions_of(refs),
        credentials=credentials,
        customers=[Customer(**fields_of(row)) for _, row in refs.rows["customer"]],
        accounts=[Account(id=row.id, name=row.name) for _, row in refs.rows["account"]],
        service_points=[service_point_of(refs, place, row) for place, row in refs.rows["service_point"]],
        meters=[Meter(**fields_of(row)) for _, row in refs.rows["meter"]],
        gateways=[row.id for _, row in refs.rows["gateway"]],
        devices=[device_of(row) for _, row in refs.rows["device"]],
        links=links_of(refs),
        grants=grants_of(refs),
        people=people_of(refs),
        offers=offers_of(refs),
        said=_said(refs),
        coded=frozenset(row.id for _, row in refs.rows["gateway"] if row.code_file),
    )
    if refs.problems:
        raise FileWrong(sorted(set(refs.problems)))
    code_files = {row.id: directory / row.code_file for _, row in refs.rows["gateway"] if row.code_file}
    return Read(wanted, secrets, code_files)


def _not_toml(error: tomllib.TOMLDecodeError) -> Problem:
    found = [word for word in str(error).replace(",", " ").split() if word.isdigit()]
    return Problem(int(found[0]) if found else 1, "(file)", f"not TOML: {error}")


def _read_tables(refs: Refs, document: Mapping[str, Any]) -> None:
    for name, entries in document.items():
        if name not in TABLES:
            refs.wrong((name,), f"unknown table{near(name, TABLES)}")
        elif not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            refs.wrong((name,), f"write [[{name}]] for each")
        else:
            for number, entry in enumerate(entries):
                row = row_of(refs, (name, number), TABLES[name], entry)
                if row is not None:
                    refs.rows[name].append(((name, number), row))
                else:
                    refs.faulty.add((name, str(entry.get("name" if name == "tier" else "id"))))


def _unique(refs: Refs) -> None:
    for table, rows in refs.rows.items():
        if table == "grant":
            continue
        key = "name" if table == "tier" else "id"
        first: dict[str, Place] = {}
        for place, row in rows:
            id = getattr(row, key)
            if not 0 < len(id) <= ID_CHARS_MAX or id != id.strip():
                refs.wrong(
                    (*place, key), f"must have 1 to {ID_CHARS_MAX} characters, and no blank at its ends"
                )
            if table == "gateway" and not is_gateway_id(id):
                refs.wrong((*place, key), "letters, digits, '.', '_' and '-' only, and not 'ccs-…'")
            if id in first:
                refs.wrong((*place, key), f"{id!r} is already at line {refs.places.line((*first[id], key))}")
            first.setdefault(id, place)


def _said(refs: Refs) -> frozenset[tuple[str, str]]:
    clients = [*refs.rows["party"], *refs.rows["system"]]
    parties = {("party", row.id) for _, row in clients if row.state}
    return frozenset(
        parties | {("service_point", row.id) for _, row in refs.rows["service_point"] if row.service}
    )
