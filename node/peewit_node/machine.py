"""What needs the machine's own randomness, because the libraries that do it do not take ours: a seam for simulation."""

from __future__ import annotations

import asyncio
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import rsa

from peewit_federation.draw.blind_rsa import EXPONENT, TokenKey
from peewit_federation.sealed import Context, seal


class Machine(Protocol):
    """Makes token keys, and seals."""

    async def token_key(self, bits: int) -> TokenKey:
        """A new key of so many bits."""
        ...

    def seal(self, public: bytes, plaintext: bytes, context: Context) -> bytes:
        """As `peewit_federation.sealed.seal`."""
        ...


class LocalMachine:
    """The real thing."""

    async def token_key(self, bits: int) -> TokenKey:
        return await asyncio.get_running_loop().run_in_executor(None, _token_key, bits)

    def seal(self, public: bytes, plaintext: bytes, context: Context) -> bytes:
        return seal(public, plaintext, context)


def _token_key(bits: int) -> TokenKey:
    numbers = rsa.generate_private_key(EXPONENT, bits).private_numbers()
    return TokenKey(numbers.p, numbers.q)
