"""What a practice keeps and sends: letters leave, and messages are deleted, only when its journal holds what they say.

Rules kept here: what is decided and the letter that says so are kept in one step; a letter is sent until a node has
taken it or nobody could read it any more, and then for a day to the others, for that node may be lost the next minute;
a device that is behind sends nothing (`BehindError`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from peewit_clients.bookings import Letter
from peewit_clients.journal import BehindError, Journal
from peewit_clients.journal_state import Name
from peewit_clients.letters import Letters, NobodyThereError
from peewit_clients.practice_state import LETTER, Item, PracticeState
from peewit_federation.errors import PeewitError
from peewit_federation.keys import SigningKey, sha256

AT_ONCE: Final = 8
"Letters that are on their way: a node that hangs holds up only its own."
AGAIN_S: Final = 300.0
"Between two tries at nodes that lack a letter which another has."
ONCE_S: Final = 86_400
"So long they are tried."


class Outbox:
    """Letters that are to be sent, and messages that are to be deleted."""

    def __init__(
        self, state: PracticeState, letters: Letters, journal: Journal, save: Callable[[Sequence[Item]], None],
        complaints: list[str], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._state = state
        self._letters = letters
        self._journal = journal
        self._save = save
        self._complaints = complaints
        self._clock = clock
        self.late = False
        "Whether something was decided that could not be told at once: its holder may have asked again meanwhile."
        self._again_s: dict[bytes, float] = {}
        "When letters that one node has are tried at the others again."
        self.nobody_there: set[bytes] = set()
        "Letters whose mailbox no node of it has."
        self._dealt_with: list[tuple[SigningKey, tuple[bytes, ...], list[bytes]]] = []
        "Messages that go from their mailboxes when the journal holds what they led to."

    async def ready(self) -> None:
        """Take over what another device decided, or this one before it was put back from a backup."""
        try:
            await self._journal.ready()
        except PeewitError as error:
            if isinstance(error, BehindError):
                self._dealt_with.clear()
            self._complaints.append(str(error))

    def keep(self, *names: Name) -> None:
        """Make durable what is now the case of these things; all together."""
        self._save(self._state.changed(*names))

    def deal_with(self, mail_key: SigningKey, boxes: tuple[bytes, ...], messages: list[bytes]) -> None:
        """Have messages deleted once what they led to, which is kept, is in the journal too."""
        self._dealt_with.append((mail_key, boxes, messages))

    def is_dealt_with(self, message: bytes) -> bool:
        """Whether a message waits to be deleted."""
        return any(message in messages for _, _, messages in self._dealt_with)

    def post(
        self, address: bytes, origins: tuple[bytes, ...], leave: bytes, message: bytes, until_s: int
    ) -> tuple[int, bytes]:
        """Put a sealed message among those to be sent; what to `keep`."""
        name = sha256(message)
        self._state.letters[name] = Letter(address, origins, leave, message, until_s)
        return LETTER, name

    async def deliver(self) -> int:
        """Send what is still to be sent; how many letters no node has taken yet. Raises `BehindError`."""
        if not (self._state.letters or self._dealt_with or self._journal.waiting):
            return 0
        try:
            await self._journal.flush()
        except BehindError:
            self._dealt_with.clear()
            raise
        except PeewitError as error:
            self._complaints.append(f"nothing is sent before the practice's journal holds it: {error}")
            self.late = True
            return len(self._state.letters)
        dealt_with, self._dealt_with = self._dealt_with, []
        for mail_key, boxes, messages in dealt_with:
            await self._letters.delete(mail_key, boxes, messages)
        changed, now_s = [], self._clock()
        due: dict[bytes, list[tuple[bytes, Letter]]] = {}
        for name, letter in self._state.letters.items():
            if now_s >= self._again_s.get(name, 0.0):
                due.setdefault(letter.address, []).append((name, letter))
        at_once = asyncio.Semaphore(AT_ONCE)
        sent = await asyncio.gather(*(self._send_all(at_once, letters) for letters in due.values()))
        for name, letter, now in (one for letters in sent for one in letters):
            if now is None:
                del self._state.letters[name]
                self._again_s.pop(name, None)
                self.nobody_there.discard(name)
            else:
                self._state.letters[name] = now
            if now != letter:
                changed.append((LETTER, name))
        if changed:
            self.keep(*changed)
        return self._state.unsent

    async def _send_all(
        self, at_once: asyncio.Semaphore, letters: Sequence[tuple[bytes, Letter]]
    ) -> list[tuple[bytes, Letter, Letter | None]]:
        """Send all letters for one mailbox in their order; what is to be kept of each."""
        async with at_once:
            return [(name, letter, await self._send(name, letter)) for name, letter in letters]

    async def _send(self, name: bytes, letter: Letter) -> Letter | None:
        """What is to be kept of a letter after sending it."""
        key, now_s = self._state.key, self._clock()
        try:
            lacking = await self._letters.put(letter.address, letter.origins, key, letter.leave, letter.message)
        except PeewitError as error:
            self._complaints.append(f"a letter could not be delivered: {error}")
            lacking = list(letter.origins)
            if isinstance(error, NobodyThereError):
                self.nobody_there.add(name)
        else:
            if not letter.once:
                letter = replace(letter, once=True, until_s=min(letter.until_s, int(now_s) + ONCE_S))
            letter = replace(letter, origins=tuple(lacking) or letter.origins)
        if not lacking or now_s >= letter.until_s:
            return None
        if letter.once:
            self._again_s[name] = now_s + AGAIN_S
        return letter
