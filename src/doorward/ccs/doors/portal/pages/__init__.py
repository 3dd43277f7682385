"""The pages, a group a file. Each file ends in its list of pages; add a new group to :func:`every_page`."""

from doorward.ccs.doors.portal.pages import (
    activity,
    cases,
    coming_in,
    connect,
    general,
    home,
    journey,
    services,
    workbench,
)
from doorward.ccs.doors.portal.visit import Page


def every_page() -> list[Page]:
    """Return all pages; the first whose path matches serves a call."""
    return [
        *coming_in.PAGES,
        *general.PAGES,
        *home.PAGES,
        *services.PAGES,
        *connect.PAGES,
        *activity.PAGES,
        *journey.PAGES,
        *cases.PAGES,
        *workbench.PAGES,
    ]
