"""The gateway's memory of its home: what its store holds, at hand for decisions.

It is changed on the event loop only, and only after the store has committed; a re-check before an act
therefore needs no wait. Nothing here does I/O or reads a clock.
"""

from collections import defaultdict
from collections.abc import Mapping

from doorward.spg.rules.facts import DAY_US, Charge, Control, Held, Policy
from doorward.wire.grants import TrustDocument, binding
from doorward.wire.messages import Command, ProvisionedDevice
from doorward.wire.permission import require_running
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import Operation


def binding_of(device: ProvisionedDevice) -> str:
    """Return the fingerprint of the equipment that an entry of the list leads to."""
    return binding(device.protocol, device.model, device.address, device.serial)


class House:
    """Devices, grants, controls, and what the rules count."""

    def __init__(self) -> None:
        self.born_us = 0
        self.provision_version = 0
        self.devices: dict[str, ProvisionedDevice] = {}
        self.capabilities: dict[str, frozenset[Operation]] = {}
        self.grants: dict[str, Held] = {}
        self.trust: TrustDocument | None = None
        """Whom to believe; ``None`` while that is whom the enrolment code named."""
        self.ended: dict[str, int] = {}
        """Grant → the version that was withdrawn; nothing up to it is ever taken again."""
        self.ending: dict[str, int] = {}
        """Grants whose withdrawal has arrived and waits for the devices' locks: already dead for all checks."""
        self.controls: dict[str, Control] = {}
        self.charges: defaultdict[str, list[Charge]] = defaultdict(list)
        self.acted: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        """(party, device) → times of controls in the last day."""
        self.overridden: set[str] = set()
        self._on: set[str] = set()
        self._off_since: dict[str, int] = {}

    # who may

    @property
    def operations_keys(self) -> dict[str, dict[str, str]]:
        """``kid`` → JWK of the keys that sign the utility's own controls."""
        return self.trust.operations if self.trust is not None else {}

    def live(self, command: Command, now_us: int) -> Held:
        """Return the grant under which ``command`` may be carried out now, or raise :class:`Refused`."""
        held = self.grants.get(command.grant)
        if held is None or self.is_ended(command.grant, held.document.version):
            raise Refused(Reason.ACCESS_DISABLED, "the gateway holds no such permission")
        document = held.document
        if document.party != command.party or document.service_point != command.service_point:
            raise Refused(Reason.ACCESS_DISABLED, "the permission is for somebody or somewhere else")
        if command.grant_version > document.version:
            raise Refused(
                Reason.ACCESS_DISABLED,
                f"the gateway holds version {document.version} of the permission, not {command.grant_version}",
            )
        require_running(document, now_us)
        if now_us >= held.lease_until_us:
            raise Refused(Reason.LEASE_ENDED)
        return held

    def is_ending(self, stored: Mapping[str, int]) -> bool:
        """Whether a withdrawal waits to be stored, beside those that a page stores (grant → version)."""
        return any(version > stored.get(grant, -1) for grant, version in self.ending.items())

    def is_ended(self, grant: str, version: int) -> bool:
        """Whether this version of a grant was withdrawn (or is being)."""
        return version <= max(self.ended.get(grant, -1), self.ending.get(grant, -1))

    def is_usable(self, grant: str, now_us: int) -> bool:
        """Whether the grant stands now: held, not withdrawn, in force, lease running."""
        held = self.grants.get(grant)
        if held is None or self.is_ended(grant, held.document.version):
            return False
        return held.document.not_before_us <= now_us < min(held.document.expires_us, held.lease_until_us)

    def require_listed(self, device: str, service_point: str) -> ProvisionedDevice:
        """Return the provisioned device at that service point; raise ``device-unlisted``."""
        listed = self.devices.get(device)
        if listed is None or listed.service_point != service_point:
            raise Refused(Reason.DEVICE_UNLISTED, field="/device")
        return listed

    def versions(self) -> dict[str, int]:
        """Grant → version held: what the CCS is told."""
        return {
            grant: held.document.version
            for grant, held in self.grants.items()
            if not self.is_ended(grant, held.document.version)
        }

    # what is counted

    def charged(self, charge: Charge) -> None:
        """Count a request against the limits; what no window can see any more is forgotten."""
        log = self.charges[charge.service_point]
        log.append(charge)
        if log[0].charge_us < charge.charge_us - 2 * DAY_US:
            self.charges[charge.service_point] = [
                old for old in log if old.charge_us >= charge.charge_us - 2 * DAY_US
            ]

    def settled(self, charges: list[Charge]) -> None:
        """Replace charges that turned out smaller."""
        smaller = {charge.id: charge for charge in charges}
        for service_point in {charge.service_point for charge in charges}:
            log = self.charges[service_point]
            self.charges[service_point] = [smaller.get(old.id, old) for old in log]

    def acts_within_a_day(self, party: str, device: str, now_us: int) -> int:
        """How many controls of this party the device had in the last 24 h."""
        recent = [t for t in self.acted[party, device] if t > now_us - DAY_US]
        self.acted[party, device] = recent
        return len(recent)

    # what devices do

    def seen(self, device: str, on: bool, at_us: int) -> None:
        """Remember since when a device is off; one that was never seen on has rested long enough."""
        if on:
            self._on.add(device)
            self._off_since.pop(device, None)
        elif device in self._on:
            self._on.discard(device)
            self._off_since[device] = at_us

    def turned_off(self, device: str, at_us: int) -> None:
        """The gateway itself turned it off (known again after a restart)."""
        self._on.discard(device)
        self._off_since[device] = at_us

    def rested_us(self, device: ProvisionedDevice, policy: Policy) -> int:
        """When the device may be turned on again (0: at any time); compressors need their rest."""
        rest_us = policy.rest_us.get(device.model, policy.rest_us.get(device.device_class.value, 0))
        off_us = self._off_since.get(device.id)
        return off_us + rest_us if off_us is not None and rest_us else 0

    # what time does

    def control_end_us(self, control: Control) -> int:
        """When the gateway must let go of this control, as things stand."""
        held = self.grants.get(control.grant)
        end_us = 0
        if held is not None and self.permits(held, control):
            end_us = min(control.ends_us, held.document.expires_us, held.lease_until_us)
        return max(end_us, control.again_us)

    def permits(self, held: Held, control: Control) -> bool:
        """Whether the grant as it now stands still covers a control that runs."""
        permit = held.document.permit(control.device)
        return (
            permit is not None
            and any(operation.is_control for operation in permit.operations)
            and control.started_us >= held.document.paused_until_us  # a pause lets go of what ran before it
            and not self.is_ended(control.grant, held.document.version)
        )

    def leads_elsewhere(self, control: Control, device: ProvisionedDevice) -> bool:
        """Whether the list now leads to other equipment than the control was set on, and no grant says so."""
        held = self.grants.get(control.grant)
        permit = held.document.permit(control.device) if held is not None else None
        known = {control.bound_to, permit.bound_to if permit is not None else control.bound_to}
        return bool(control.bound_to) and binding_of(device) not in known

    def why_ended(self, control: Control, now_us: int) -> Reason | None:
        """Why a control that is due ends: ``None`` at its own end."""
        held = self.grants.get(control.grant)
        if held is None or not self.permits(held, control):
            return Reason.ACCESS_DISABLED
        if control.reason:
            return Reason(control.reason)
        if now_us >= held.document.expires_us:
            return Reason.ACCESS_ENDED
        return Reason.LEASE_ENDED if now_us >= held.lease_until_us else None
