"""The way up to the CCS: frames of what is ready, repeated until it is acknowledged.

The outbox itself is in the store. Here is a bounded window of it, who was sent when, and one timer.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from doorward.spg.ports import Store
from doorward.wire.messages import Hello, Notice, Receipt, Result, Up

WINDOW_MAX = 512
"""Messages held in memory and possibly under way; the others wait in the store."""
FRAME_MESSAGES_MAX = 256
FRAME_BYTES_NEAR_MAX = 512 * 1024
MESSAGE_BYTES_NEAR = 400
RESEND_S_MIN = 3.0
RESEND_S_MAX = 60.0
RECEIPT_LINGER_S = 0.15
"""How long a receipt waits for what comes after it, so that both go in one frame. Results never wait."""


@dataclass(slots=True)
class _Letter:
    message: Up
    due_s: float
    tries: int = 0


class Outbox:
    """Sends what the store's outbox holds (a :class:`~doorward.spg.ports.Post`).

    ``seal`` makes a frame of messages, ``send`` puts it on the link and may raise ``ConnectionError``.
    """

    def __init__(
        self,
        store: Store,
        seal: Callable[[list[Up]], bytes],
        send: Callable[[bytes], Awaitable[None]],
        rng: random.Random,
    ) -> None:
        self._store = store
        self._seal = seal
        self._send = send
        self._rng = rng
        self._window: dict[int, _Letter] = {}
        self._top = 0
        self._more_in_store = True
        self._linked = False
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0
        self._sender: asyncio.Task[None] | None = None
        self._filler: asyncio.Task[None] | None = None
        self._arrived = 0

    def ready(self, messages: Sequence[Up]) -> None:
        """These messages are committed and may go."""
        now_s = _now_s()
        for message in messages:
            self._arrived += 1
            if self._more_in_store or len(self._window) >= WINDOW_MAX:
                self._more_in_store = True
            elif not isinstance(message, Hello):
                linger_s = RECEIPT_LINGER_S if isinstance(message, Receipt) else 0.0
                self._window[message.seq] = _Letter(message, now_s + linger_s)
                self._top = message.seq
        self._plan()

    def again(self, ids: Collection[str]) -> set[str]:
        """Send at once what still waits for these requests; return the ids for which a result does."""
        results = set()
        for letter in self._window.values():
            message = letter.message
            if isinstance(message, Receipt | Result) and message.id in ids:
                letter.due_s = 0.0
                if isinstance(message, Result):
                    results.add(message.id)
        self._plan()
        return results

    def acknowledged(self, seqs: Collection[int]) -> None:
        """The CCS has these."""
        for seq in seqs:
            self._window.pop(seq, None)
        self._fill()

    async def connected(self, hello: Hello) -> None:
        """A link is there: say who we are, then everything that waits."""
        self._linked = False
        await self._send(self._seal([hello]))
        for letter in self._window.values():
            letter.due_s, letter.tries = 0.0, 0
        self._linked = True
        self._fill()
        self._plan()

    def lost(self) -> None:
        """The link is gone; what was under way is sent again on the next one."""
        self._linked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def stop(self) -> None:
        """End the timer and the tasks."""
        self.lost()
        tasks = [task for task in (self._sender, self._filler) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _plan(self) -> None:
        """Set the one timer to the earliest letter."""
        if not self._linked or not self._window or (self._sender is not None and not self._sender.done()):
            return
        due_s = min(letter.due_s for letter in self._window.values())
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = asyncio.get_running_loop().call_at(due_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._sender = asyncio.get_running_loop().create_task(self._send_due())
        self._sender.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._plan()

    async def _send_due(self) -> None:
        while self._linked and (messages := self._frame()):
            try:
                await self._send(self._seal(messages))
            except ConnectionError:
                return

    def _frame(self) -> list[Up]:
        """Take what is due, and with it whatever was never sent."""
        now_s = _now_s()
        due = [letter for letter in self._window.values() if letter.due_s <= now_s]
        if not due:
            return []
        taken: list[Up] = []
        size = 0
        for letter in self._window.values():
            if letter.due_s > now_s and letter.tries:
                continue
            size += _bytes_near(letter.message)
            if taken and (size > FRAME_BYTES_NEAR_MAX or len(taken) >= FRAME_MESSAGES_MAX):
                break
            letter.tries += 1
            letter.due_s = now_s + self._pause_s(letter.tries)
            taken.append(letter.message)
        return taken

    def _pause_s(self, tries: int) -> float:
        """Full jitter over a growing span, above the time that an acknowledgement may take."""
        span_s = min(RESEND_S_MAX, RESEND_S_MIN * 2.0 ** min(tries, 10))
        return RESEND_S_MIN + self._rng.random() * span_s

    def _fill(self) -> None:
        """Take more from the store when there is room."""
        busy = self._filler is not None and not self._filler.done()
        if self._more_in_store and not busy and len(self._window) <= WINDOW_MAX // 2:
            self._filler = asyncio.get_running_loop().create_task(self._take_more())

    async def _take_more(self) -> None:
        while self._more_in_store and len(self._window) < WINDOW_MAX:
            arrived, room = self._arrived, WINDOW_MAX - len(self._window)
            messages = await self._stored(self._top, room)
            for message in messages:
                if not isinstance(message, Hello):
                    self._window[message.seq] = _Letter(message, 0.0)
                    self._top = message.seq
            self._more_in_store = len(messages) == room or self._arrived != arrived
        self._plan()

    async def _stored(self, after: int, room: int) -> list[Up]:
        return await self._store.read(lambda books: books.outbox_after(after, room))


def _bytes_near(message: Up) -> int:
    return MESSAGE_BYTES_NEAR + (len(bytes(message.data)) if isinstance(message, Result | Notice) else 0)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
