"""The record of the tour itself: an audit of the CCS's and of all gateways', as an auditor would do it."""

import asyncio

from doorward.audit import keys
from doorward.audit.findings import Report
from doorward.audit.records import NotAuditable
from doorward.audit.run import audit
from doorward.ccs.app import KEYS_DIR
from doorward.ccs.settings import AUTHORITY_DIR
from doorward.simulate.tour.evidence import JOURNAL, LOG, Chapter, seen
from doorward.simulate.tour.stage import Stage

FAULTS_SHOWN_MAX = 3


def record(stage: Stage) -> Chapter:
    """X02: both records are whole and agree, and permission stood for all that was delivered."""
    now_us = stage.clock.now_us()
    try:
        report = asyncio.run(_audit(stage, now_us))
    except NotAuditable as error:
        return Chapter.of("record", [seen("X02", "the record was audited", JOURNAL, 0, str(error))])
    faults = "; ".join(finding.sentence() for finding in report.findings[:FAULTS_SHOWN_MAX])
    looked = report.looked
    what = (
        (
            f"both records are whole: {looked.get('rows', 0)} rows under {looked.get('links', 0)} links",
            JOURNAL,
        ),
        (f"both tell the same of {looked.get('messages of gateways', 0)} messages", LOG),
        (f"permission stood for {looked.get('deliveries', 0)} deliveries", JOURNAL),
    )
    return Chapter.of("record", [seen("X02", says, where, now_us, faults) for says, where in what])


async def _audit(stage: Stage, now_us: int) -> Report:
    utility = stage.utility
    place = utility.directory / "ccs"
    gateways = [utility.directory / "gateways" / home.gateway for home in utility.plan.homes]
    return await audit(
        utility.database,
        gateways,
        record_keys=keys.record_keys(place / KEYS_DIR),
        consent_keys=keys.consent_keys(place, place / AUTHORITY_DIR),
        now_us=now_us,
    )
