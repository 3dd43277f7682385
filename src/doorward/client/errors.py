"""What the SDK raises. Every error carries the problem as the API said it."""

import msgspec

from doorward.client.records import Problem, Request


class DoorwardError(Exception):
    """Base of all errors. ``problem`` has the reason, the detail, the field and the request id."""

    def __init__(self, problem: Problem) -> None:
        place = f" at {problem.field}" if problem.field else ""
        said = problem.detail or problem.title or f"HTTP {problem.status}"
        super().__init__(f"{problem.reason or 'error'}{place}: {said}")
        self.problem = problem

    @property
    def reason(self) -> str:
        """The reason, from the closed list."""
        return self.problem.reason

    @property
    def field(self) -> str:
        """JSON pointer of what was wrong, or ``""``."""
        return self.problem.field


class NotAuthenticated(DoorwardError):
    """The credentials or the token were not accepted."""


class NotPermitted(DoorwardError):
    """The customer, the contract or the utility does not allow it."""


class DeviceUnknown(DoorwardError):
    """There is no such device that you may reach."""


class NotFound(DoorwardError):
    """There is nothing of that name that you may see."""


class Malformed(DoorwardError):
    """The request does not follow its format; ``field`` says where."""


class Conflict(DoorwardError):
    """The key was used for something else, or it is too late."""


class LimitExceeded(DoorwardError):
    """The limit is used up, or the system is busy; try again in ``retry_after_s``."""

    @property
    def retry_after_s(self) -> float:
        """Seconds until it may work again (0 when not said)."""
        return self.problem.retry_after_s or 0.0


class Unreachable(DoorwardError):
    """The CCS could not be reached or could not serve, also after several tries."""


class NotDone(DoorwardError):
    """A request ended, or was waited for, without being done; ``request`` says how it stands."""

    def __init__(self, request: Request) -> None:
        said = (
            request.detail or f"the request is {request.state}, its answer {request.answer or 'still open'}"
        )
        super().__init__(Problem(reason=request.reason or "", detail=said))
        self.request = request


class WebhookRefused(DoorwardError):
    """A webhook that does not prove where it comes from, or is not one."""

    def __init__(self, detail: str) -> None:
        super().__init__(Problem(reason="signature-invalid", detail=detail))


_FAMILIES: dict[str, type[DoorwardError]] = {
    reason: family
    for family, reasons in {
        NotAuthenticated: ("not-authenticated", "token-expired", "token-revoked", "proof-invalid"),
        NotPermitted: (
            "scope-missing",
            "party-suspended",
            "operation-not-permitted",
            "outside-customer-limits",
            "access-disabled",
            "access-paused",
            "contract-missing",
            "access-ended",
            "lease-ended",
            "service-off",
            "customer-protected",
            "signature-invalid",
            "utility-hold",
        ),
        DeviceUnknown: ("device-unknown",),
        NotFound: ("not-found",),
        Malformed: (
            "body-malformed",
            "body-too-large",
            "format-invalid",
            "format-unknown",
            "format-version-retired",
            "deadline-passed",
        ),
        Conflict: ("idempotency-conflict", "too-late"),
        LimitExceeded: ("limit-exceeded", "rate-limited", "fleet-cap", "congestion"),
        Unreachable: ("system-failure", "gateway-unreachable", "power-outage"),
    }.items()
    for reason in reasons
}

_BY_STATUS: dict[int, type[DoorwardError]] = {
    400: Malformed,
    401: NotAuthenticated,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    413: Malformed,
    422: Malformed,
    429: LimitExceeded,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}


class _OAuthError(msgspec.Struct, frozen=True):
    error: str
    error_description: str = ""


def error_of(problem: Problem) -> DoorwardError:
    """Return the error of a problem, by its reason, else by its status."""
    family = _FAMILIES.get(problem.reason) or _BY_STATUS.get(problem.status, DoorwardError)
    return family(problem)


def problem_of(status: int, body: bytes, retry_after_s: float | None = None) -> Problem:
    """Return the problem in an answer, whatever its body is: a problem, an OAuth error, or neither."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        problem = Problem(detail=body[:200].decode(errors="replace"))
    if not problem.reason:
        try:
            oauth = msgspec.json.decode(body, type=_OAuthError)
        except msgspec.DecodeError:
            pass
        else:
            problem = msgspec.structs.replace(problem, reason=oauth.error, detail=oauth.error_description)
    return msgspec.structs.replace(
        problem,
        status=status,
        retry_after_s=problem.retry_after_s if problem.retry_after_s is not None else retry_after_s,
    )


def require_done(request: Request) -> Request:
    """Return ``request`` when the device confirmed it; raise :class:`NotDone` otherwise."""
    if not request.is_done:
        raise NotDone(request)
    return request
