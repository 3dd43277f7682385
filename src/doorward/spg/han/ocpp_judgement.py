"""What the OCPP adapter decides without asking anybody. Pure; raises ``DeviceFault`` for what can not be."""

import base64
import binascii
import hmac
import math
import ssl
import zlib
from collections.abc import Mapping
from urllib.parse import unquote

from websockets.http11 import Request

from doorward.spg.han.ocpp_session import Said
from doorward.spg.han.recipe import minutes_of
from doorward.spg.ports import DeviceFault, Reading, Security
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import DeviceClass, OperatingState

POWER_W_MAX = 100_000.0
RUNNING_W = 20.0
TOLERANCE_W = 50.0


def security_of(passwords: bool, tls: ssl.SSLContext | None) -> Security:
    """Return what the means configured offer."""
    if tls is not None and tls.verify_mode is ssl.CERT_REQUIRED:
        note = "OCPP security profile 3: TLS with a certificate of the charger."
        return Security(authenticates_device=True, encrypts=True, note=note)
    if tls is not None:
        note = "OCPP security profile 2: TLS; chargers with a password prove themselves by it."
        return Security(authenticates_device=passwords, encrypts=True, note=note)
    note = (
        "OCPP security profile 1: a password by HTTP Basic, readable on the segment."
        if passwords
        else "No security profile: identities are believed. On a dedicated segment only."
    )
    return Security(authenticates_device=passwords, encrypts=False, note=note)


def identity_of(path: str) -> str:
    """Return the charger's identity of a WebSocket path: its last part."""
    return unquote(path.partition("?")[0].rstrip("/").rpartition("/")[2])[:64]


def proves(request: Request, identity: str, password: str) -> bool:
    """Whether a request carries the password by HTTP Basic."""
    scheme, _, pair = request.headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(pair, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, f"{identity}:{password}".encode())


def is_charger(device: ProvisionedDevice) -> bool:
    """Whether a device is an EV charger."""
    return device.device_class is DeviceClass.EV_CHARGER


def profile_id(request: str, otherwise: int) -> int:
    """Return a profile id: from the request's id, so that the charger's own record names it."""
    return zlib.crc32(request.encode()) & 0x7FFFFFFF if request else otherwise


def check_accepted(what: str, status: str) -> None:
    """Raise ``DeviceFault`` when a charger did not accept."""
    if status != "Accepted":
        raise DeviceFault(Reason.DEVICE_REFUSED, f"{what}: {status}")


def watts_of(body: Mapping[str, object]) -> float:
    """Return ``watts`` of a body; raise ``DeviceFault`` when it is none."""
    watts = body.get("watts")
    if isinstance(watts, bool) or not isinstance(watts, (int, float)):
        raise DeviceFault(Reason.DEVICE_REFUSED, f"'watts' is a number, not {watts!r}")
    if not 0 <= watts <= POWER_W_MAX:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"{watts} W is outside 0 to {POWER_W_MAX:g}")
    return float(watts)


def daily_rows(body: Mapping[str, object]) -> list[tuple[int, float]]:
    """Return a programme's rows as (second of the day, W); raise ``DeviceFault`` when it is none."""
    intervals = body.get("intervals")
    if not isinstance(intervals, list) or not intervals:
        raise DeviceFault(Reason.DEVICE_REFUSED, "'intervals' is a list of at least one interval")
    return sorted((minutes_of(row.get("at")) * 60, watts_of(row)) for row in intervals)


def check_plausible(what: str, value: float, least: float, most: float) -> None:
    """Raise ``DeviceFault`` when a value can not be."""
    if not (math.isfinite(value) and least <= value <= most):
        raise DeviceFault(Reason.DEVICE_FAULT, f"{what} reads {value:g}, plausible is {least:g} to {most:g}")


def state_of(device: ProvisionedDevice, said: Said, limit_w: float | None) -> OperatingState:
    """Return the operating state."""
    if said.faulted:
        return OperatingState.ERROR
    running = "RUNNING" if said.power_w > RUNNING_W else "IDLE"
    limited = limit_w is not None and device.rated_w > 0 and limit_w < 0.99 * device.rated_w
    if said.opt_out:
        return OperatingState(f"{running}_OPTED_OUT")
    if limited or not said.operative:
        return OperatingState(f"{running}_CURTAILED")
    return OperatingState(f"{running}_NORMAL")


def above_limit(watts: float, reading: Reading) -> str:
    """Say in words what is above a limit; empty when nothing is."""
    limit = reading.values["limit_w"]
    if not isinstance(limit, float) or limit > watts + 1.0:
        return f"the composite schedule says {limit} W, asked for {watts:g} W"
    if reading.power_w > watts + TOLERANCE_W:
        return f"it draws {reading.power_w:g} W, asked for {watts:g} W at most"
    return ""


def unreleased(ours_w: float | None, baseline: Mapping[str, object], said: Said, reading: Reading) -> str:
    """Say in words what is not as it was before the first control; empty when all is."""
    on, before, now = bool(baseline.get("on", True)), baseline.get("limit_w"), reading.values["limit_w"]
    if said.operative != on:
        return f"status is {said.status}"
    if on and baseline.get("charging") and said.plugged and said.transaction is None:
        return "no transaction runs, one did before"
    if not isinstance(before, (int, float)) or not isinstance(now, float) or now >= before - 1.0:
        return ""
    # A lower limit may be the charger's own by now; it is ours while it is what we set.
    ours = ours_w is None or abs(now - ours_w) <= 1.0
    return f"the limit is still {now:g} W, was {before:g} W" if ours else ""
