"""What every answer of the portal carries, its cookies, and the proof that a form came from our own page."""

import hmac
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.requests import Request

from doorward.wire.signatures import b64url

# Scripts and styles come from our own files only; nothing frames us, and forms go to us alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: MappingProxyType[str, str] = MappingProxyType(
    {
        "content-security-policy": POLICY,
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
        "cache-control": "no-store",
    }
)
STRICT_TRANSPORT = "max-age=31536000"


class Cookies:
    """Names and attributes of our cookies; with TLS they take the prefix that ties them to this host."""

    def __init__(self, *, secure: bool) -> None:
        self.secure = secure
        prefix = "__Host-" if secure else ""
        self.session = f"{prefix}doorward-session"
        self.form = f"{prefix}doorward-form"
        self.theme = "doorward-theme"


class FormProof:
    """Tokens in forms: an HMAC over the cookie that the browser holds, so that no other site can know it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, cookie: str) -> str:
        """Return the token that belongs to a cookie."""
        return b64url(hmac.digest(self._key, f"form|{cookie}".encode(), "sha256"))

    def holds(self, cookie: str, token: str) -> bool:
        """Whether a form's token belongs to the cookie that came with it."""
        return bool(cookie) and hmac.compare_digest(self.token(cookie), token)


def from_elsewhere(request: Request) -> bool:
    """Whether a browser says that a call comes from another site."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")


def local_path(path: str) -> str:
    """Return a path of the portal that may be gone to, ``""`` for anything that could lead elsewhere."""
    safe = path.startswith("/portal/") and "\\" not in path and "//" not in path and path.isprintable()
    return path if safe else ""
