"""The synchronous client: carries out, with threads' locks and sleeps, what the core decides."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx2

from doorward.client import api, ask
from doorward.client.ask import WAIT_S_DEFAULT, Ask, Control, How
from doorward.client.core import Call
from doorward.client.keys import PrivateKey
from doorward.client.options import SCOPES, STREAM_TIMEOUT, core_of, timeout_of, trust
from doorward.client.records import (
    Device,
    Endpoint,
    Event,
    Events,
    Format,
    Grant,
    Item,
    Journey,
    Limits,
    Request,
    Requests,
)
from doorward.client.talk import Broken, Conversation, Effect, HttpAnswer, HttpRequest, Outcome, Pause, Renew
from doorward.kit.clock import Clock

T = TypeVar("T")


class Client:
    """A third party's connection to a CCS. Safe to share between threads; close it, or use ``with``.

    Prove who you are with ``client_secret``, or with ``private_key`` (Ed25519; ``key_id`` is its name at
    the utility). ``command_key`` signs controls end to end. ``dpop`` binds tokens to a key that is made
    here (RFC 9449), ``certificate`` (paths of chain and key, PEM) is what TLS shows (RFC 8705). ``ca`` is
    a PEM file or text to trust instead of the system's authorities. All methods raise
    :class:`~doorward.client.errors.DoorwardError`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        private_key: PrivateKey | None = None,
        key_id: str = "",
        command_key: PrivateKey | None = None,
        command_key_id: str = "",
        ca: str | None = None,
        dpop: bool = False,
        certificate: tuple[str, str] | None = None,
        scopes: Sequence[str] = SCOPES,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._core = core_of(
            base_url,
            client_id,
            client_secret,
            private_key,
            key_id,
            command_key,
            command_key_id,
            scopes,
            clock,
            rng,
            dpop=dpop,
        )
        self._http = httpx2.Client(verify=trust(ca, certificate), follow_redirects=False)
        self._renewing = threading.Lock()
        self._sleep = sleep

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- carrying out ---------------------------------------------------------------------------------

    def _run(self, conversation: Conversation[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                effect = conversation.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = self._perform(effect)

    def _perform(self, effect: Effect) -> Outcome:
        if isinstance(effect, Pause):
            self._sleep(effect.seconds)
            return None
        if isinstance(effect, Renew):
            with self._renewing:
                if self._core.needs_token(effect.stale):
                    self._run(self._core.renew())
            return None
        request = effect.request
        try:
            answer = self._http.request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                timeout=timeout_of(request),
            )
        except httpx2.TransportError as error:
            return Broken(str(error) or type(error).__name__)
        return _answer(answer)

    def _call(self, call: Call[T]) -> T:
        return self._run(self._core.talk(call))

    def _ask(self, asked: Ask) -> Request:
        return self._run(self._core.ask(asked))

    # --- asking ---------------------------------------------------------------------------------------

    def request(
        self, operation: str, device: str = "", *, body: dict[str, Any] | None = None, **how: Unpack[Control]
    ) -> Request:
        """Send any operation with any body."""
        return self._ask(ask.request(operation, device, body=body, **how))

    def read(self, device: str, *, values: Sequence[str] | None = None, **how: Unpack[How]) -> Request:
        """Read a device now: all that it shows, or only ``values``."""
        return self._ask(ask.read(device, values=values, **how))

    def read_home(
        self,
        service_point: str,
        *,
        from_: datetime | None = None,
        to: datetime | None = None,
        values: Sequence[str] | None = None,
        wait_s: int = WAIT_S_DEFAULT,
        key: str = "",
    ) -> Request:
        """Read all permitted devices of a home in one request: now, or in a past interval."""
        asked = ask.read_home(service_point, from_=from_, to=to, values=values, wait_s=wait_s, key=key)
        return self._ask(asked)

    def limit(self, device: str = "", *, watts: float, **how: Unpack[Control]) -> Request:
        """Draw at most ``watts``: a device, or with ``service_point=`` alone the whole service point."""
        return self._ask(ask.limit(device, watts=watts, **how))

    def turn_on(self, device: str, **how: Unpack[Control]) -> Request:
        """Turn a device on."""
        return self._ask(ask.turn_on(device, **how))

    def turn_off(self, device: str, **how: Unpack[Control]) -> Request:
        """Turn a device off."""
        return self._ask(ask.turn_off(device, **how))

    def setpoint(
        self, device: str, *, celsius: float, which: str | None = None, **how: Unpack[Control]
    ) -> Request:
        """Hold a temperature; ``which`` is ``heat`` or ``cool`` (default: what the mode uses)."""
        return self._ask(ask.setpoint(device, celsius=celsius, which=which, **how))

    def offset(self, device: str, *, celsius: float, **how: Unpack[Control]) -> Request:
        """Shift the setpoint from the owner's own."""
        return self._ask(ask.offset(device, celsius=celsius, **how))

    def mode(self, device: str, mode: str, **how: Unpack[Control]) -> Request:
        """Set the mode: off, auto, heat, cool, fan_only, dry."""
        return self._ask(ask.mode(device, mode, **how))

    def shed(self, device: str, *, level: int = 1, **how: Unpack[Control]) -> Request:
        """Draw less: 1 shed, 2 critical peak, 3 grid emergency."""
        return self._ask(ask.shed(device, level=level, **how))

    def load_up(self, device: str, *, level: int = 1, **how: Unpack[Control]) -> Request:
        """Store energy ahead: 1 load up, 2 advanced."""
        return self._ask(ask.load_up(device, level=level, **how))

    def duty_cycle(self, device: str, *, percent: float, **how: Unpack[Control]) -> Request:
        """Run so many percent of the time."""
        return self._ask(ask.duty_cycle(device, percent=percent, **how))

    def program(self, device: str, intervals: Sequence[dict[str, Any]], **how: Unpack[Control]) -> Request:
        """Replace the daily programme; each interval begins ``at`` "HH:MM" (UTC)."""
        return self._ask(ask.program(device, intervals, **how))

    def release(self, device: str, **how: Unpack[How]) -> Request:
        """Let go of what you set on a device; a service point's limit ends by :meth:`cancel`."""
        return self._ask(ask.release(device, **how))

    # --- lists, waiting, events -----------------------------------------------------------------------

    def submit(self, asks: Sequence[Ask], *, wait_s: int = 0) -> list[Item]:
        """Send 1 to 1,000 requests in one call; each gets its own answer, in order."""
        return self._run(self._core.submit(asks, wait_s))

    def wait(self, request: str, *, timeout_s: float = 60.0) -> Request:
        """Return a request once it is final, or as it stands when time runs out."""
        return self._run(self._core.wait(request, timeout_s))

    def grants(self, *, after: int | None = None) -> list[Grant]:
        """All grants, or those that changed after a ``sequence``."""
        return self._run(self._core.grants(after))

    def events(self, *, after: str | None = None, kinds: Sequence[str] = ()) -> Iterator[Event]:
        """Iterate over events as they happen, for ever; a broken stream is resumed after its last event.

        Begins after a cursor (``event.cursor``), from the beginning with ``""``, or from now on.
        """
        feed = self._core.feed(after, kinds)
        while True:
            token = self._run(self._core.sign_in())
            try:
                with self._stream(feed.request(token)) as response:
                    if response.status_code == 200:
                        for sent in httpx2.EventSource(response):
                            event = feed.take(sent.event, sent.id, sent.data)
                            if event is not None:
                                yield event
                    else:
                        response.read()
                        if feed.refused(_answer(response)):
                            self._perform(Renew(token))
            except httpx2.TransportError:
                pass  # the pause follows, then the stream goes on where it was
            self._sleep(feed.pause_s())

    def _stream(self, request: HttpRequest) -> AbstractContextManager[httpx2.Response]:
        return self._http.stream(request.method, request.url, headers=request.headers, timeout=STREAM_TIMEOUT)

    # --- looking --------------------------------------------------------------------------------------

    def get(self, request: str) -> Request:
        """How a request stands."""
        return self._call(api.get(request))

    def cancel(self, request: str) -> Request:
        """Cancel a request; raises :class:`Conflict` when it is too late."""
        return self._call(api.cancel(request))

    def cancel_campaign(self, campaign: str) -> list[Request]:
        """Cancel all requests of a campaign."""
        return self._call(api.cancel_campaign(campaign)).items

    def requests(
        self,
        *,
        state: str = "",
        device: str = "",
        service_point: str = "",
        campaign: str = "",
        limit: int = 50,
        after: str = "",
    ) -> Requests:
        """A page of your requests, newest first; go on with ``after=page.next``."""
        return self._call(
            api.requests(
                state=state,
                device=device,
                service_point=service_point,
                campaign=campaign,
                limit=limit,
                after=after,
            )
        )

    def journey(self, request: str) -> Journey:
        """Every step of a request, with its time and actor."""
        return self._call(api.journey(request))

    def devices(self, *, service_point: str = "") -> list[Device]:
        """The devices that you may reach, and what you may do with each."""
        return self._call(api.devices(service_point)).items

    def device(self, device: str) -> Device:
        """One device."""
        return self._call(api.device(device))

    def limits(self, service_point: str) -> Limits:
        """What you may still send to a service point."""
        return self._call(api.limits(service_point))

    def formats(self) -> list[Format]:
        """The catalogue of message formats."""
        return self._call(api.formats()).items

    def format(self, name: str, version: int) -> Format:
        """One message format with its schemas."""
        return self._call(api.format_(name, version))

    def past_events(self, *, after: str = "", kind: str = "", limit: int = 100) -> Events:
        """A page of events; go on with ``after=page.next``."""
        return self._call(api.events(after, kind, limit))

    # --- webhooks -------------------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """Your webhook endpoints."""
        return self._call(api.endpoints()).items

    def put_endpoint(
        self,
        endpoint: str,
        url: str,
        *,
        mode: str = "thin",
        pin: str = "",
        kinds: Sequence[str] = (),
        ca: str = "",
    ) -> Endpoint:
        """Make or change an endpoint; its ``secret`` is shown here and never again."""
        return self._call(api.put_endpoint(endpoint, url, mode, pin, kinds, ca))

    def prove_endpoint(self, endpoint: str) -> Endpoint:
        """Have the challenge sent to an endpoint; it must answer with it."""
        return self._call(api.prove_endpoint(endpoint))

    def delete_endpoint(self, endpoint: str) -> None:
        """Remove an endpoint."""
        self._call(api.delete_endpoint(endpoint))

    def webhook_keys(self) -> list[dict[str, str]]:
        """The public keys (JWKs) that webhooks are signed with, for ``verify_webhook``."""
        return self._call(api.webhook_keys()).keys


def _answer(response: httpx2.Response) -> HttpAnswer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpAnswer(status=response.status_code, headers=headers, body=response.content)
