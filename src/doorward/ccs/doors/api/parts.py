"""What the endpoints that FastAPI serves have in common: the token, the names in paths, and the answers."""

from typing import Annotated

import msgspec
from fastapi import Depends, Path, Query, Request, Response

from doorward.ccs.doors.api.call import bearer_of

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
_encode = msgspec.json.Encoder().encode


def token_of(request: Request) -> str:
    """Return the access token; raise ``not-authenticated``."""
    return bearer_of(request.headers.get("authorization", "").encode("latin-1"))


Token = Annotated[str, Depends(token_of)]
Name = Annotated[str, Query(max_length=64, pattern=PRINTABLE)]
Cursor = Annotated[str, Query(max_length=64, pattern=PRINTABLE, description="The `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Items of a page.")]
Id = Annotated[str, Path(max_length=64, pattern=PRINTABLE)]


def json_response(view: object, status: int = 200) -> Response:
    """Return an answer with a JSON body."""
    return Response(
        _encode(view), status, media_type="application/json", headers={"cache-control": "no-store"}
    )
