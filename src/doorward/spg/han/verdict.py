"""Why a device did not follow, by what it shows."""

from doorward.spg.ports import Acted, Reading
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import OperatingState


def not_followed(reading: Reading, detail: str) -> Acted:
    """Return the outcome of a command that was not followed; ``detail`` is what was seen instead."""
    if reading.overridden:
        reason = Reason.CUSTOMER_OVERRIDE
    elif reading.state is OperatingState.ERROR:
        reason = Reason.DEVICE_FAULT
    else:
        reason = Reason.DEVICE_NOT_FOLLOWING
    return Acted(followed=False, reading=reading, reason=reason, detail=detail)
