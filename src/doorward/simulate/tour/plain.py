"""The API by hand, for what an SDK would not let through: HTTP requests and their bare answers."""

from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Bare:
    """An answer: status, headers (lower case) and the JSON body."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def request_id(self) -> str:
        """Under which the CCS has the call on record."""
        return self.headers.get("x-request-id", "")

    def problem(self) -> dict[str, Any]:
        """Return the problem without what differs from call to call."""
        return {name: value for name, value in self.body.items() if name != "request_id"}


class Plain:
    """A third party without an SDK."""

    def __init__(self, url: str, party: str, secret: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=TIMEOUT_S)
        self._party, self._secret = party, secret
        self._token = ""

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def token(self, secret: str | None = None) -> Bare:
        """Ask for a token, with this party's own secret or with another."""
        form = {"grant_type": "client_credentials"}
        pair = (self._party, self._secret if secret is None else secret)
        return _bare(self._http.post("/oauth/token", data=form, auth=pair))

    def post(self, body: object, token: str | None = None) -> Bare:
        """Send requests, with a token of one's own or with another."""
        if token is None:
            self._token = self._token or self.token().body["access_token"]
            token = self._token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return _bare(self._http.post("/v1/requests", content=msgspec.json.encode(body), headers=headers))


def _bare(answer: httpx2.Response) -> Bare:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Bare(answer.status_code, headers, msgspec.json.decode(answer.content or b"null"))
