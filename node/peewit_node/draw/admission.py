"""Whom this node admits: whoever has a signup code, or has done some work, or anybody at a rate.

Rules kept here: a code is spent for one round, group and blinded message, at once and for ever, in the transaction that
counts the signature; showing it again for the same is harmless, so that a lost answer can be asked for again. What a
code was spent for is a hash of blinded bytes, which tells nobody what was signed. Work is bound to the blinded message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from peewit_federation.draw.api import CODE, KINDS, OPEN, SPENT, UNKNOWN, UNSPENT, WORK, TokenAsk, work_done
from peewit_federation.errors import QuotaError, RefusedError
from peewit_federation.keys import sha256
from peewit_node.config import Admission as Settings
from peewit_node.draw.token_keys import COUNT
from peewit_node.engine import Engine, Write, WriteConflictError

ADD: Final = "INSERT INTO codes VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
SPEND: Final = "UPDATE codes SET spent = ? WHERE code = ? AND spent = ?"
NOTHING: Final = b""
"What a code was spent for that was not."
WORDS: Final = {OPEN: "nothing", CODE: "a signup code", WORK: "a proof of work"}


class Admission:
    """The check before a blind signature."""

    def __init__(self, engine: Engine, settings: Settings, origin: bytes, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._settings = settings
        self._origin = origin
        self._clock = clock
        self._allowance = float(settings.per_minute)
        self._at_s = clock()

    @property
    def kind(self) -> int:
        """Which kind of proof is asked for."""
        return KINDS[self._settings.kind]

    async def add(self, origin: bytes, codes: Sequence[tuple[bytes, str]]) -> int:
        """Learn signup codes: what each is at the node of an operator (`draw.api.code_at`), and its group.

        How many were new. Raises `RefusedError` if they are another node's, or of a group for which we make no keys.
        """
        if origin != self._origin:
            raise RefusedError("these codes are for the node of another operator; here nobody could use them")
        unknown = {group for _, group in codes} - {"", *self._settings.groups}
        if unknown:
            raise RefusedError(
                f"this node makes no keys for the group {min(unknown)!r}: put it into admission.groups, start again, "
                f"and load these codes then"
            )
        count = "SELECT count(*) FROM codes"
        ((before,),) = await self._engine.fetch(count)
        await self._engine.write(*(Write(ADD, (code, group, NOTHING)) for code, group in codes))
        ((after,),) = await self._engine.fetch(count)
        return int(after) - int(before)

    async def look(self, ask: TokenAsk) -> int:
        """How a signup code stands here, for whoever wants to know before it is spent anywhere."""
        rows = await self._engine.fetch("SELECT spent FROM codes WHERE code = ? AND grp = ?", ask.proof, ask.group)
        if not rows:
            return UNKNOWN
        return SPENT if rows[0][0] else UNSPENT

    async def admit(self, ask: TokenAsk) -> None:
        """Admit what was asked, durably. Raises `RefusedError` or `QuotaError`."""
        if ask.kind != self.kind:
            raise RefusedError(f"this node admits with {WORDS[self.kind]}, not with {WORDS[ask.kind]}")
        if ask.kind == CODE:
            await self._spend(ask)
            return
        if ask.kind == WORK:
            done = work_done(self._origin, ask.round, ask.group, ask.blinded, ask.proof)
            if done < self._settings.work_bits:
                raise RefusedError(f"a proof of work of {done} bits; this node asks for {self._settings.work_bits}")
        if await self._engine.fetch("SELECT 1 FROM admitted WHERE purpose = ?", _purpose(ask)):
            return
        if ask.kind == OPEN:
            self._take_turn()
        row = Write("INSERT INTO admitted VALUES (?, ?)", (_purpose(ask), ask.round))
        with suppress(WriteConflictError):  # the same ask, at the same time; or its round has just ended
            await self._engine.write(row, Write(COUNT, (ask.round, ask.group), 1))

    def _take_turn(self) -> None:
        per_s = self._settings.per_minute / 60
        now_s = self._clock()
        passed_s = max(0.0, now_s - self._at_s)
        self._allowance = min(self._settings.per_minute, self._allowance + per_s * passed_s)
        self._at_s = now_s
        if self._allowance < 1:
            wait_s = (1 - self._allowance) / per_s
            raise QuotaError(f"too many ask to be admitted just now; try again in {max(1.0, wait_s):.0f} s")
        self._allowance -= 1

    async def _spend(self, ask: TokenAsk) -> None:
        purpose = _purpose(ask)
        for _ in range(2):
            rows = await self._engine.fetch("SELECT grp, spent FROM codes WHERE code = ?", ask.proof)
            if not rows:
                raise RefusedError("this node does not know that signup code")
            group, spent = rows[0]
            if group != ask.group:
                raise RefusedError(f"that signup code is for {group or 'no group'}, not for {ask.group or 'no group'}")
            if spent == purpose:
                return
            if spent:
                raise RefusedError("that signup code was used already")
            try:
                await self._engine.write(
                    Write(SPEND, (purpose, ask.proof, NOTHING), 1), Write(COUNT, (ask.round, ask.group), 1)
                )
            except WriteConflictError:
                continue  # somebody was faster, perhaps with the same ask
            return
        raise RefusedError("that signup code was used already")


def _purpose(ask: TokenAsk) -> bytes:
    """What an admission was spent for: a hash of blinded bytes."""
    return sha256(b"peewit spent for v1", ask.round.to_bytes(8, "big"), ask.group.encode(), b"\0", ask.blinded)
