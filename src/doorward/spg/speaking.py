"""What devices say by themselves: to those, and only those, whom the customer lets read them."""

from doorward.spg.answers import raw
from doorward.spg.desk import Desk
from doorward.spg.letting_go import LettingGo
from doorward.spg.ports import DeviceNotice
from doorward.spg.rules.page import Page
from doorward.wire.grants import GrantDocument
from doorward.wire.messages import Notice
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor
from doorward.wire.vocabulary import Operation

UNLISTED = "unlisted"
OVERRIDES = {"override": True, "opt_out": True, "override_ended": False, "opt_in": False}
TOLD_MAX = 1_000
DATA_BYTES_MAX = 16 * 1024


class Speaking:
    """Takes notices from devices and gives them to whom they may go."""

    def __init__(self, desk: Desk, letting_go: LettingGo) -> None:
        self.desk = desk
        self.letting_go = letting_go
        self._told: dict[tuple[str, str], int] = {}

    async def said(self, notice: DeviceNotice) -> None:
        """One notice. A device that is not on the list is reported and not forwarded (F22, F25)."""
        page = self.desk.page()
        listed = self.desk.house.devices.get(notice.device)
        if notice.kind == UNLISTED or listed is None:
            refused = Refused(Reason.DEVICE_UNLISTED, f"{notice.kind} from a device that is not on the list")
            self.desk.count_attempt(page, "out", refused, device=notice.device)
            if page.out:
                await self.desk.commit(page)
            return
        if notice.kind in OVERRIDES:
            self.letting_go.overridden(notice.device, OVERRIDES[notice.kind])
        if self._is_too_often(notice, page.now_us) or self.desk.outgoing >= self.desk.policy.outbox_max:
            return
        page.note(
            f"notice:{notice.kind}",
            page.now_us,
            actor=Actor.DEVICE,
            service_point=listed.service_point,
            device=notice.device,
        )
        for document in self._readers(notice.device, listed.service_point, page.now_us):
            self._tell(document, notice, page)
        await self.desk.commit(page)

    def _is_too_often(self, notice: DeviceNotice, now_us: int) -> bool:
        """One notice per device and kind in a minute; a device that chatters floods nobody."""
        key = (notice.device, notice.kind)
        last_us = self._told.get(key)
        if last_us is not None and now_us - last_us < self.desk.policy.notice_gap_us:
            return True
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told[key] = now_us
        return False

    def _readers(self, device: str, service_point: str, now_us: int) -> list[GrantDocument]:
        readers = []
        for grant, held in self.desk.house.grants.items():
            permit = held.document.permit(device)
            if (
                permit is not None
                and Operation.READ in permit.operations
                and held.document.service_point == service_point
                and self.desk.clock.trusted
                and self.desk.house.is_usable(grant, now_us)
            ):
                readers.append(held.document)
        return readers

    def _tell(self, document: GrantDocument, notice: DeviceNotice, page: Page) -> None:
        data = raw(notice.data)
        id = self.desk.new_id()
        page.out.append(
            Notice(
                seq=0,
                id=id,
                party=document.party,
                service_point=document.service_point,
                device=notice.device,
                kind=notice.kind,
                at_us=page.now_us,
                grant=document.grant,
                grant_version=document.version,
                data=data if len(bytes(data)) <= DATA_BYTES_MAX else raw({}),
            )
        )
        page.note(
            "notice",
            page.now_us,
            message=id,
            party=document.party,
            service_point=document.service_point,
            device=notice.device,
            detail=notice.kind,
        )
