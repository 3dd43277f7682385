"""The closed list of reasons, and the one error that travels.

A reason is a machine-readable word (F20). ``Refused`` carries it; doors turn it into an HTTP status,
the gateway into a receipt, the journal into a row, and pages into a sentence for people.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused, failed, withheld or warned about."""

    # who is asking
    NOT_AUTHENTICATED = "not-authenticated"
    TOKEN_EXPIRED = "token-expired"
    TOKEN_REVOKED = "token-revoked"
    PROOF_INVALID = "proof-invalid"
    SCOPE_MISSING = "scope-missing"
    PARTY_SUSPENDED = "party-suspended"
    # what is asked
    BODY_MALFORMED = "body-malformed"
    BODY_TOO_LARGE = "body-too-large"
    FORMAT_INVALID = "format-invalid"
    FORMAT_UNKNOWN = "format-unknown"
    FORMAT_RETIRED = "format-version-retired"
    IDEMPOTENCY_CONFLICT = "idempotency-conflict"
    NOT_FOUND = "not-found"
    TOO_LATE = "too-late"
    # may it
    DEVICE_UNKNOWN = "device-unknown"
    OPERATION_NOT_PERMITTED = "operation-not-permitted"
    OUTSIDE_CUSTOMER_LIMITS = "outside-customer-limits"
    ACCESS_DISABLED = "access-disabled"
    ACCESS_ENDED = "access-ended"
    ACCESS_PAUSED = "access-paused"
    CONTRACT_MISSING = "contract-missing"
    LEASE_ENDED = "lease-ended"
    SERVICE_OFF = "service-off"
    CUSTOMER_PROTECTED = "customer-protected"
    SIGNATURE_INVALID = "signature-invalid"
    UTILITY_HOLD = "utility-hold"
    # how much
    LIMIT_EXCEEDED = "limit-exceeded"
    RATE_LIMITED = "rate-limited"
    FLEET_CAP = "fleet-cap"
    CONGESTION = "congestion"
    # on the way
    GATEWAY_UNREACHABLE = "gateway-unreachable"
    POWER_OUTAGE = "power-outage"
    SYSTEM_FAILURE = "system-failure"
    DEADLINE_PASSED = "deadline-passed"
    CANCELLED = "cancelled"
    NO_PROOF = "no-proof"
    REPLAYED = "replayed"
    FORGED = "forged"
    CLOCK_UNTRUSTED = "clock-untrusted"
    # at home
    DEVICE_UNAVAILABLE = "device-unavailable"
    DEVICE_REFUSED = "device-refused"
    DEVICE_NOT_FOLLOWING = "device-not-following"
    DEVICE_FAULT = "device-fault"
    DEVICE_UNLISTED = "device-unlisted"
    CUSTOMER_OVERRIDE = "customer-override"
    SUPERSEDED = "superseded"


SENTENCES: dict[Reason, str] = {
    Reason.NOT_AUTHENTICATED: "The caller did not prove who it is.",
    Reason.TOKEN_EXPIRED: "The access token has expired; ask for a new one.",
    Reason.TOKEN_REVOKED: "The access token was revoked.",
    Reason.PROOF_INVALID: "The caller did not prove that it holds the key of its access token.",
    Reason.SCOPE_MISSING: "The access token does not carry the scope that this call needs.",
    Reason.PARTY_SUSPENDED: "The utility has suspended this company.",
    Reason.BODY_MALFORMED: "The message could not be read.",
    Reason.BODY_TOO_LARGE: "The message is larger than is accepted.",
    Reason.FORMAT_INVALID: "The message does not follow its format.",
    Reason.FORMAT_UNKNOWN: "There is no such message format.",
    Reason.FORMAT_RETIRED: "This version of the message format is no longer accepted.",
    Reason.IDEMPOTENCY_CONFLICT: "This key was already used for a different message.",
    Reason.NOT_FOUND: "There is nothing of that name that you may see.",
    Reason.TOO_LATE: "It is too late to do that.",
    Reason.DEVICE_UNKNOWN: "There is no device of that id that you may reach.",
    Reason.OPERATION_NOT_PERMITTED: "The customer has not permitted this operation on this device.",
    Reason.OUTSIDE_CUSTOMER_LIMITS: "The request is outside the bounds that the customer set.",
    Reason.ACCESS_DISABLED: "The customer has withdrawn access.",
    Reason.ACCESS_ENDED: "The customer's permission has ended.",
    Reason.ACCESS_PAUSED: "The customer has paused access.",
    Reason.CONTRACT_MISSING: "There is no contract that is signed, approved and running.",
    Reason.LEASE_ENDED: "The gateway's copy of the permission was not renewed in time.",
    Reason.SERVICE_OFF: "Service at this address is turned off.",
    Reason.CUSTOMER_PROTECTED: "Devices of this customer may be read, and not be controlled from outside.",
    Reason.SIGNATURE_INVALID: "The signature is missing or does not verify.",
    Reason.UTILITY_HOLD: "The utility is holding third-party traffic for now.",
    Reason.LIMIT_EXCEEDED: "The number of messages allowed to this service point is used up for now.",
    Reason.RATE_LIMITED: "Too many calls at once; slow down.",
    Reason.FLEET_CAP: "It would move more load at once than the utility allows; its operators look at it.",
    Reason.CONGESTION: "The system is too busy to take this now.",
    Reason.GATEWAY_UNREACHABLE: "The gateway at the home could not be reached.",
    Reason.POWER_OUTAGE: "There is a power outage at the home.",
    Reason.SYSTEM_FAILURE: "Something failed on the utility's side.",
    Reason.DEADLINE_PASSED: "The time by which this had to happen has passed.",
    Reason.CANCELLED: "The request was cancelled.",
    Reason.NO_PROOF: "No proof arrived whether the device acted.",
    Reason.REPLAYED: "This message was already seen.",
    Reason.FORGED: "The message does not prove where it comes from.",
    Reason.CLOCK_UNTRUSTED: "The gateway's clock cannot be trusted.",
    Reason.DEVICE_UNAVAILABLE: "The device does not answer.",
    Reason.DEVICE_REFUSED: "The device refused the command.",
    Reason.DEVICE_NOT_FOLLOWING: "The device accepted the command and did not follow it.",
    Reason.DEVICE_FAULT: "The device reports a fault.",
    Reason.DEVICE_UNLISTED: "The device is not on the gateway's list.",
    Reason.CUSTOMER_OVERRIDE: "Somebody at home has chosen otherwise.",
    Reason.SUPERSEDED: "A later command replaced this one.",
}
"""One sentence for people per reason."""


class Refused(Exception):
    """A step said no.

    ``reason`` is from the closed list; ``detail`` says what exactly was wrong; ``field`` is the JSON
    pointer of what was wrong, where there is one; ``retry_after_s`` is when it may work again.
    """

    def __init__(
        self, reason: Reason, detail: str = "", *, field: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{reason.value}: {detail or SENTENCES[reason]}")
        self.reason = reason
        self.detail = detail or SENTENCES[reason]
        self.field = field
        self.retry_after_s = retry_after_s
