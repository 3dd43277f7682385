"""The portal as it runs, in a small town with people; browsers without JavaScript are played by aiohttp."""

import html
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.contracts import Offer
from doorward.ccs.rules.facts import Account, Customer, Link, LinkKind, ServicePoint
from doorward.ccs.rules.people import Person, Role
from tests.ccs.doors.service import CHEAP, Service
from tests.ccs.town import HOUR

PASSWORD = "four words make one"
TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


def person(id: str, role: Role, name: str, of: str = "") -> Person:
    return Person(
        id=id, role=role, name=name, login=f"{id}@example.org", of=of, password=CHEAP.hash(PASSWORD)
    )


PEOPLE = [
    person("maria", Role.CUSTOMER, "Maria Lopez", "C-1"),
    person("diego", Role.CUSTOMER, "Diego Lopez", "C-2"),
    person("olga", Role.CUSTOMER, "Olga <Other>", "C-9"),
    person("rosa", Role.REPRESENTATIVE, "Rosa Reyes"),
    person("omar", Role.OPERATOR, "Omar Haddad"),
    person("dana", Role.DEVELOPER, "Dana Kim", "bright"),
    person("sven", Role.DEVELOPER, "Sven Falk", "sun"),
    person("vera", Role.VENDOR, "Vera Novak", "Gatewell"),
    person("adam", Role.AUDITOR, "Adam Stone"),
]


async def settle_people(books: AllBooks, now_us: int) -> None:
    """Maria and Diego share SP-1's account; Olga lives at SP-9, which has no gateway."""
    since = now_us - 2 * HOUR
    await books.put_customers(
        [
            Customer(id="C-1", name="Maria Lopez"),
            Customer(id="C-2", name="Diego Lopez"),
            Customer(id="C-9", name="Olga <Other>"),
        ]
    )
    await books.put_accounts([Account(id="A-1"), Account(id="A-9")])
    await books.put_service_points([ServicePoint(id="SP-9")])
    links = [
        (LinkKind.CUSTOMER_ACCOUNT, "C-1", "A-1"),
        (LinkKind.CUSTOMER_ACCOUNT, "C-2", "A-1"),
        (LinkKind.CUSTOMER_ACCOUNT, "C-9", "A-9"),
        (LinkKind.ACCOUNT_SERVICE_POINT, "A-1", "SP-1"),
        (LinkKind.ACCOUNT_SERVICE_POINT, "A-9", "SP-9"),
    ]
    await books.put_links([Link(kind=kind, a=a, b=b, since_us=since) for kind, a, b in links])
    await books.put_people(PEOPLE)
    await books.put_offers(
        [
            Offer(party="bright", tier="gold", agreed_by="file", agreed_us=since, verified_us=since),
            Offer(party="sun", tier="gold", agreed_by="file", agreed_us=since, verified_us=since),
        ]
    )


class Reply:
    """A page, read whole."""

    def __init__(self, answer: aiohttp.ClientResponse, text: str) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.path = answer.url.path
        self.html = text

    @property
    def text(self) -> str:
        """What a person reads: no tags, no runs of white space."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", self.html)).split())

    @property
    def token(self) -> str:
        found = TOKEN.search(self.html)
        assert found is not None, self.html
        return html.unescape(found[1])


class Browser:
    """A browser without JavaScript: cookies, redirects, forms with the token of the page before."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.last: Reply | None = None

    async def get(self, path: str, **more: Any) -> Reply:
        async with self.session.get(self.url + path, **more) as answer:
            self.last = Reply(answer, await answer.text())
            return self.last

    async def post(
        self, path: str, fields: Mapping[str, Any] | None = None, *, token: str | None = None, **more: Any
    ) -> Reply:
        proof = token if token is not None else (self.last.token if self.last else "")
        data = urlencode({"form_token": proof, **(fields or {})}, doseq=True)
        headers = {"content-type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
        async with self.session.post(self.url + path, data=data, headers=headers, **more) as answer:
            self.last = Reply(answer, await answer.text())
            return self.last

    async def sign_in(self, login: str, password: str = PASSWORD) -> Reply:
        await self.get("/portal/sign-in")
        return await self.post("/portal/sign-in", {"login": login, "password": password})

    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.session.cookie_jar}


class Site:
    """A running portal and the browsers in front of it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.browsers: list[Browser] = []

    def browser(self) -> Browser:
        browser = Browser(self.service.app.url)
        self.browsers.append(browser)
        return browser

    async def as_(self, person: str) -> Browser:
        """A browser in which somebody is signed in."""
        browser = self.browser()
        reply = await browser.sign_in(f"{person}@example.org")
        assert reply.status == 200, reply.text
        return browser

    async def build(self) -> None:
        now_us = self.service.app.clock.now_us()
        await self.service.app.store.write(lambda books: settle_people(books, now_us))

    async def close(self) -> None:
        for browser in self.browsers:
            await browser.session.close()
