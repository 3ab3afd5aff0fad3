"""What a simulated node gets instead of the machine's own randomness: keys that are the same in every run.

Rules kept here: the n-th key of a world is always the same, so that logs are; sealing is the real thing, whose bytes
nobody may depend on.
"""

from __future__ import annotations

import hashlib
from functools import cache

import gmpy2

from peewit_federation.draw.blind_rsa import TokenKey
from peewit_node.machine import LocalMachine


class SimMachine(LocalMachine):
    """Makes keys from numbers."""

    def __init__(self) -> None:
        self._made = 0

    async def token_key(self, bits: int) -> TokenKey:
        self._made += 1
        return _token_key(bits, self._made)


def make_keys(count: int, bits: int = 2048) -> None:
    """Make the first keys of every world beforehand: processes that are forked later have them."""
    for number in range(1, count + 1):
        _token_key(bits, number)


@cache
def _token_key(bits: int, number: int) -> TokenKey:
    return TokenKey(_prime(bits // 2, number, "p"), _prime(bits // 2, number, "q"))


def _prime(bits: int, *name: object) -> int:
    """A prime with its two highest bits set, so that products have the right length."""
    start = int.from_bytes(hashlib.shake_256(repr(name).encode()).digest(bits // 8), "big")
    prime = gmpy2.next_prime(start | 3 << (bits - 2))
    while gmpy2.gcd(prime - 1, 65537) != 1:
        prime = gmpy2.next_prime(prime)
    return int(prime)
