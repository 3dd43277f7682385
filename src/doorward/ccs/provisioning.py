"""What a gateway should hold, as messages: its devices, its grants and their leases, and what is still open."""

from doorward.ccs.ports import Books
from doorward.ccs.rules.facts import Device, Grant, Provisioned
from doorward.ccs.way_back import last_attempt
from doorward.wire.messages import (
    Cancel,
    Down,
    GrantPush,
    Lease,
    Provision,
    ProvisionedDevice,
    Reconcile,
    Time,
    Withdraw,
)

RECONCILE_IDS_MAX = 2_000


async def greeting(books: Books, gateway: str, now_us: int) -> tuple[int, list[Down]]:
    """Return what a gateway is told on connecting, in its fixed order, and which version of its state that is."""
    desired = (await books.provisioned({gateway})).get(gateway)
    open_ids = await books.open_at(gateway)
    opened = await books.requests(open_ids[:RECONCILE_IDS_MAX])
    messages: list[Down] = [Time(at_us=now_us)]
    if desired is not None:
        messages += desired_state(desired, now_us)
    ids = [id for id in open_ids[:RECONCILE_IDS_MAX] if id in opened]
    messages.append(Reconcile(ids=ids, attempts=[last_attempt(opened[id]) for id in ids]))
    messages += [Cancel(id=each.id, by_party=each.party) for each in opened.values() if each.cancel_asked]
    return (desired.gateway.desired_version if desired else 0), messages


def desired_state(desired: Provisioned, now_us: int) -> list[Down]:
    """Return withdrawals first, then the list of devices, then grants with their leases."""
    live = [grant for grant in desired.grants if is_live(grant, now_us)]
    gone = [grant for grant in desired.grants if not is_live(grant, now_us)]
    messages: list[Down] = [
        Withdraw(grant=grant.id, version=grant.version, at_us=grant.changed_us) for grant in gone
    ]
    messages.append(
        Provision(
            version=desired.gateway.desired_version,
            service_points=desired.service_points,
            devices=[_device(device) for device in desired.devices],
            grants=[grant.id for grant in live],
        )
    )
    for grant in live:
        messages.append(
            GrantPush(
                grant=grant.id,
                version=grant.version,
                document=grant.signed,
                lease_until_us=grant.lease_until_us,
            )
        )
        if grant.lease_signed:
            messages.append(Lease(grant=grant.id, document=grant.lease_signed))
    return messages


def is_live(grant: Grant, now_us: int) -> bool:
    """Whether a grant belongs on its gateway now."""
    return grant.state == "live" and now_us < grant.document.expires_us


def _device(device: Device) -> ProvisionedDevice:
    return ProvisionedDevice(
        id=device.id,
        service_point=device.service_point,
        device_class=device.device_class,
        protocol=device.protocol,
        model=device.model,
        address=device.address,
        rated_w=device.rated_w,
        serial=device.serial,
    )
