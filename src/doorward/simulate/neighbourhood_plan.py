"""What a neighbourhood for the demo consists of, as data; and the two files that are made of it."""

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass

MODELS = {
    DeviceClass.THERMOSTAT: "sim-thermostat",
    DeviceClass.HEAT_PUMP: "sim-heat-pump",
    DeviceClass.POOL_PUMP: "sim-pool-pump",
    DeviceClass.WATER_HEATER: "sim-water-heater",
    DeviceClass.RELAY: "sim-relay",
    DeviceClass.METER: "sim-meter",
}


@dataclass(frozen=True)
class Equipment:
    """A device of a home; ``protocol`` as the simulated equipment names it."""

    id: str
    device_class: DeviceClass
    name: str
    protocol: str = "modbus"
    rated_w: float = 3000.0
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Home:
    """A service point with its gateway, its customer and its equipment; ``others`` share the account."""

    service_point: str
    gateway: str
    customer: str
    equipment: tuple[Equipment, ...]
    others: tuple[str, ...] = ()
    address: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class Company:
    """A third party (or the utility itself), its tier, and the homes whose customers let it in."""

    id: str
    name: str
    tier: str
    homes: tuple[str, ...]
    utility: bool = False
    signs: bool = False
    """Whether it has a key of its own with which it signs controls."""
    must_sign: bool = False
    """Whether its customers' permissions ask for that signature."""
    purpose: str = "energy savings"
    website: str = ""
    wants: dict[str, list[str]] = field(default_factory=dict)
    """The verbs that it asks customers for, by device class."""


@dataclass(frozen=True)
class Someone:
    """Somebody of the utility, of a company or of a vendor who can sign in; every customer can."""

    id: str
    role: str
    name: str
    of: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything."""

    homes: tuple[Home, ...]
    parties: tuple[Company, ...]
    per_hour: int = 24
    per_day: int = 576
    people: tuple[Someone, ...] = ()


def equipment_of(
    plan: Plan, files: Path, ocpp_ports: dict[str, int], modbus_ports: dict[str, int]
) -> dict[str, Any]:
    """Return the configuration of the simulated equipment."""
    devices = []
    for home in plan.homes:
        for unit, device in enumerate(home.equipment, start=1):
            common = {
                "name": device.id,
                "class": device.device_class,
                "protocol": device.protocol,
                "actuation_file": str(files / f"{device.id}.jsonl"),
                "parameters": device.parameters,
            }
            if device.protocol == "modbus":
                devices.append({**common, "port": modbus_ports[home.gateway], "unit": unit})
            else:
                devices.append({**common, "url": f"ws://127.0.0.1:{ocpp_ports[home.gateway]}/ocpp"})
    return {"devices": devices, "control_port": 0}


def utility_file_of(plan: Plan, modbus_ports: dict[str, int]) -> str:
    """Return the file for ``doorward apply``."""
    lines: list[str] = []
    for tier, response_s, top in (("premium", 30, 0), ("standard", 60, 1), ("basic", 60, 2)):
        lines += _table("tier", name=tier, per_hour=plan.per_hour, per_day=plan.per_day,
                        response_s=response_s, top_priority=top)  # fmt: skip
    for party in plan.parties:
        lines += _table("party", id=party.id, name=party.name, secret_file=f"secrets/{party.id}",
                        utility=party.utility, **_signing(party))  # fmt: skip
        lines += [] if party.utility else _offer(party)
    for person in plan.people:
        lines += _table("person", id=person.id, role=person.role, name=person.name, of=person.of)
    for home in plan.homes:
        lines += _home(home, modbus_ports[home.gateway])
    for party in plan.parties:
        for home in plan.homes:
            if home.service_point in party.homes:
                lines += _grant(party, home)
    return "\n".join(lines) + "\n"


def _signing(party: Company) -> dict[str, Any]:
    if not party.signs:
        return {}
    return {"command_keys_file": f"keys/{party.id}.jwks", "signature_required": party.must_sign}


def _home(home: Home, modbus_port: int) -> list[str]:
    customers = {f"C-{home.service_point}": home.customer}
    customers |= {f"C-{home.service_point}-{at}": name for at, name in enumerate(home.others, start=2)}
    lines: list[str] = []
    for id, name in customers.items():
        lines += _table("customer", id=id, name=name)
        login = name.split()[0].lower()
        lines += _table(
            "person", id=id.lower(), role="customer", name=name, of=id, login=f"{login}.{id.lower()}"
        )
    lines += _table("account", id=f"A-{home.service_point}", customers=list(customers))
    lines += _table("gateway", id=home.gateway, code_file=f"codes/{home.gateway}")
    lines += _table("service_point", id=home.service_point, account=f"A-{home.service_point}",
                    gateway=home.gateway, timezone=home.timezone, address=home.address)  # fmt: skip
    for unit, device in enumerate(home.equipment, start=1):
        fields: dict[str, Any] = {
            "id": device.id,
            "class": device.device_class,
            "protocol": "modbus" if device.protocol == "modbus" else "ocpp",
            "address": f"127.0.0.1:{modbus_port}/{unit}" if device.protocol == "modbus" else device.id,
            "service_point": home.service_point,
            "name": device.name,
            "rated_w": device.rated_w,
        }
        if device.device_class in MODELS:
            fields["model"] = MODELS[device.device_class]
        lines += _table("device", **fields)
    return lines


def _offer(party: Company) -> list[str]:
    """What the company offers to customers on the portal."""
    fields = {"tier": party.tier, "purpose": party.purpose, "website": party.website}
    fields["legal_name"] = f"{party.name} Inc."
    lines = ["", "[party.offer]", *(f"{key} = {_value(value)}" for key, value in fields.items())]
    lines.append(f"verified = {date(2026, 3, 2).isoformat()}")
    lines += ["", "[party.offer.wants]", *(f"{key} = {_value(value)}" for key, value in party.wants.items())]
    return lines


def _grant(party: Company, home: Home) -> list[str]:
    lines = _table("grant", party=party.id, service_point=home.service_point, purpose=party.purpose,
                   tier=party.tier, until=date(2099, 1, 1), service_point_limit=True)  # fmt: skip
    for device in home.equipment:
        operations = sorted(CLASS_OPERATIONS[device.device_class])
        lines += ["", "[[grant.device]]", f"id = {json.dumps(device.id)}"]
        lines.append(f"operations = {json.dumps([str(each) for each in operations if each != 'release'])}")
    return lines


def _table(table: str, /, **fields: Any) -> list[str]:
    return ["", f"[[{table}]]", *(f"{key} = {_value(value)}" for key, value in fields.items())]


def _value(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else json.dumps(value)


ASKS = {
    "thermostat": ["see", "set"],
    "heat_pump": ["see", "limit"],
    "pool_pump": ["see", "switch", "limit", "schedule"],
    "water_heater": ["see", "limit"],
    "ev_charger": ["see", "limit", "schedule"],
    "relay": ["see", "switch"],
}
"""What the companies of the demo ask for."""

DEMO = Plan(
    homes=(
        Home("SP-1001", "SPG-1001", "Maria Lopez", others=("Diego Lopez",), address="14 Alder Road",
             timezone="America/Toronto", equipment=(
            Equipment("TH-1001", DeviceClass.THERMOSTAT, "Thermostat (hall)", rated_w=5000),
            Equipment("HP-1001", DeviceClass.HEAT_PUMP, "Heat pump", rated_w=3500),
            Equipment("PP-1001", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
            Equipment("EV-1001", DeviceClass.EV_CHARGER, "Car charger", "ocpp1.6", 7400),
        )),
        Home("SP-1002", "SPG-1002", "Sam Okafor", address="3 Mill Lane", timezone="America/Toronto", equipment=(
            Equipment("TH-1002", DeviceClass.THERMOSTAT, "Thermostat (upstairs)", rated_w=5000),
            Equipment("WH-1002", DeviceClass.WATER_HEATER, "Water heater", rated_w=4500),
            Equipment("EV-1002", DeviceClass.EV_CHARGER, "Car charger", "ocpp2.0.1", 11000),
            Equipment("RL-1002", DeviceClass.RELAY, "Workshop compressor", rated_w=2000),
        )),
        Home("SP-1003", "SPG-1003", "Lena Berg", address="27 Harbour Street",
             timezone="America/Toronto", equipment=(
            Equipment("PP-1003", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
            Equipment("WH-1003", DeviceClass.WATER_HEATER, "Water heater", rated_w=4500),
            Equipment("HP-1003", DeviceClass.HEAT_PUMP, "Heat pump", rated_w=3500),
            Equipment("RL-1003", DeviceClass.RELAY, "Freezer room", rated_w=2000),
        )),
    ),
    parties=(
        Company("brightgrid", "BrightGrid", "premium", ("SP-1001", "SP-1002", "SP-1003"), signs=True,
                purpose="lower bills by shifting what can wait", website="brightgrid.example", wants=ASKS),
        Company("sunfold", "Sunfold Energy", "standard", ("SP-1001", "SP-1002"),
                purpose="solar power used where it is made", website="sunfold.example", wants=ASKS),
    ),
    people=(
        Someone("rosa", "representative", "Rosa Reyes"),
        Someone("omar", "operator", "Omar Haddad"),
        Someone("dana", "developer", "Dana Kim", "brightgrid"),
        Someone("sven", "developer", "Sven Falk", "sunfold"),
        Someone("vera", "vendor", "Vera Novak", "Gatewell"),
        Someone("adam", "auditor", "Adam Stone"),
    ),
    per_hour=240,
    per_day=5760,
)  # fmt: skip
"""The demo: 3 homes, 12 devices of 6 classes on two protocols, 2 companies. Its limits are ten times the
usual ones, so that one can play."""
