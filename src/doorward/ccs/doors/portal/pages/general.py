"""What is for everybody: help, and one's own settings."""

from msgspec.structs import replace
from starlette.responses import Response

from doorward.ccs.doors.portal.visit import Page, Visit
from doorward.ccs.rules.rights import Act


async def show_help(visit: Visit) -> Response:
    """Show the words of the site and whom to turn to."""
    return visit.render("help.html")


async def settings(visit: Visit) -> Response:
    """Show one's own settings."""
    return visit.render("settings.html", done=visit.query("done"))


async def take_settings(visit: Visit) -> Response:
    """Keep one's own settings."""
    changed = replace(visit.who, fahrenheit=visit.field("degrees") == "fahrenheit")
    await visit.write(lambda books: books.put_people([changed]))
    return visit.go("/portal/settings", done="saved")


PAGES = [
    Page("GET", "/help", None, show_help),
    Page("GET", "/settings", Act.CHANGE_OWN_SETTINGS, settings),
    Page("POST", "/settings", Act.CHANGE_OWN_SETTINGS, take_settings),
]
