"""What the API's door needs to know of the web site beside it: both answer on one address."""

from typing import Protocol

from doorward.ccs.doors.api.call import Receive, Scope, Send


class Site(Protocol):
    """An ASGI application, the paths that are its own, and its end."""

    def serves(self, path: str) -> bool:
        """Whether a path is the site's."""
        ...

    def close(self) -> None:
        """Let go of whoever follows something live."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        ...
