"""Templates, what they may call, and our own files: everything from here, nothing from other sites."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from doorward.ccs.doors.portal import words

PLACE = Path(__file__).parent
STATIC = PLACE / "static"
TYPES = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
SHA256: MappingProxyType[str, str] = MappingProxyType(
    {
        "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
        "hx-sse.min.js": "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
    }
)
"""Of the vendored files (htmx 4.0.1 and its SSE extension); a test compares them."""
KEPT = "public, max-age=31536000, immutable"
VERSION_DIGITS = 12


class Pages:
    """Renders templates. Every file of ours is named with a part of its hash, so that it may be kept for ever."""

    def __init__(self, utility: str) -> None:
        self._files = {file.name: file.read_bytes() for file in STATIC.iterdir() if file.suffix in TYPES}
        self._versions = {
            name: hashlib.sha256(raw).hexdigest()[:VERSION_DIGITS] for name, raw in self._files.items()
        }
        self._templates = Environment(
            loader=FileSystemLoader(PLACE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(utility=utility, asset=self.asset, **words.FUNCTIONS)
        self._templates.filters.update(words.FILTERS)

    def asset(self, name: str) -> str:
        """Return the address of a file of ours."""
        return f"/portal/static/{name}?v={self._versions[name]}"

    def file(self, name: str) -> Response | None:
        """Return a file of ours, ``None`` for what is none."""
        raw = self._files.get(name)
        if raw is None:
            return None
        headers = {"cache-control": KEPT, "x-content-type-options": "nosniff"}
        return Response(raw, media_type=TYPES[Path(name).suffix], headers=headers)

    def text(self, template: str, context: Mapping[str, Any]) -> str:
        """Return a template with its context."""
        return self._templates.get_template(template).render(context)

    def response(self, template: str, status: int, context: Mapping[str, Any]) -> Response:
        """Return a page."""
        return HTMLResponse(self.text(template, context), status)
