"""The utility's other systems, and what they are told."""

from doorward.ccs.rules.facts import Party
from doorward.ccs.rules.feed import KIND_NAMES, SCOPES, Subscription
from doorward.cli.toml_places import Path as Place
from doorward.cli.utility.mistakes import Refs, fields_of, near
from doorward.cli.utility.tables import SubscriptionTable, SystemTable


def systems_of(refs: Refs) -> list[Party]:
    """Return the systems of the file; none may be named as a third party is."""
    parties = refs.ids("party")
    return [_system(refs, place, row, parties) for place, row in refs.rows["system"]]


def _system(refs: Refs, place: Place, row: SystemTable, parties: dict[str, object]) -> Party:
    if row.id in parties:
        refs.wrong((*place, "id"), f"{row.id!r} is a third party; a system needs a name of its own")
    for scope in row.scopes:
        if scope not in SCOPES:
            refs.wrong((*place, "scopes"), f"no scope {scope!r}{near(scope, SCOPES)}")
    return Party(
        id=row.id,
        name=row.name,
        kind="system",
        state=row.state or "active",
        auth=row.auth,
        token_s=row.token_s,
        scopes=row.scopes,
        token_binding=row.token_binding,
        calls_per_s=row.calls_per_s,
        contact=row.contact,
    )


def subscriptions_of(refs: Refs) -> list[Subscription]:
    """Return who is told what."""
    return [_subscription(refs, place, row) for place, row in refs.rows["subscription"]]


def _subscription(refs: Refs, place: Place, row: SubscriptionTable) -> Subscription:
    refs.must_be((*place, "system"), "system", row.system)
    for kind in row.kinds:
        if kind not in KIND_NAMES:
            refs.wrong((*place, "kinds"), f"no kind {kind!r}{near(kind, KIND_NAMES)}")
    fields = fields_of(row)
    return Subscription(party=fields.pop("third_party"), **fields)
