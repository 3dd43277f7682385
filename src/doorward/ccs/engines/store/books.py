"""All parts of the books in one object: what a step is given."""

from doorward.ccs.engines.store.accept import Accepting
from doorward.ccs.engines.store.agreements import Agreements
from doorward.ccs.engines.store.back import WayBack
from doorward.ccs.engines.store.catalogue import Catalogue
from doorward.ccs.engines.store.css import CustomerService
from doorward.ccs.engines.store.fleet import Fleet
from doorward.ccs.engines.store.people import People
from doorward.ccs.engines.store.reading import Reading
from doorward.ccs.engines.store.registry import Setup
from doorward.ccs.engines.store.systems import Systems
from doorward.ccs.engines.store.time import Time
from doorward.ccs.engines.store.workers import Workers


class SqlBooks(
    Accepting,
    Fleet,
    WayBack,
    Time,
    Workers,
    Reading,
    Catalogue,
    Setup,
    People,
    Agreements,
    Systems,
    CustomerService,
):
    """:class:`~doorward.ccs.ports.AllBooks` over one transaction of any database."""
