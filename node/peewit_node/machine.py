"""What a node needs of the machine it runs on: its randomness, where libraries do not take ours, and its other cores.

A seam for simulation, and for tests that have neither time for keys nor use for processes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa

from peewit_federation.draw.blind_rsa import EXPONENT, TokenKey
from peewit_federation.errors import OperatorError
from peewit_federation.sealed import Context, seal
from peewit_node.checking.jobs import Job

T = TypeVar("T")


class CheckerError(OperatorError):
    """Nobody could look at it at the moment."""


class Machine(Protocol):
    """Makes token keys, seals, and checks what arrives."""

    async def token_key(self, bits: int) -> TokenKey:
        """A new key of so many bits."""
        ...

    def seal(self, public: bytes, plaintext: bytes, context: Context) -> bytes:
        """As `peewit_federation.sealed.seal`."""
        ...

    async def check(self, job: Job[T], *arguments: Any) -> T:
        """Do a job. Raises its `SenderError`s, or `CheckerError`."""
        ...

    @property
    def lacking(self) -> int:
        """How many processes that check should run and do not."""
        ...

    async def close(self) -> None:
        """End what was started."""
        ...


class LocalMachine:
    """This process alone."""

    async def token_key(self, bits: int) -> TokenKey:
        return await asyncio.get_running_loop().run_in_executor(None, _token_key, bits)

    def seal(self, public: bytes, plaintext: bytes, context: Context) -> bytes:
        return seal(public, plaintext, context)

    async def check(self, job: Job[T], *arguments: Any) -> T:
        return job.read(job.work(*arguments), *arguments)

    @property
    def lacking(self) -> int:
        return 0

    async def close(self) -> None:
        """Nothing was started."""


def _token_key(bits: int) -> TokenKey:
    numbers = rsa.generate_private_key(EXPONENT, bits).private_numbers()
    return TokenKey(numbers.p, numbers.q)
