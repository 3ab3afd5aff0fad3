"""The static files of a log: tile paths, hash tiles and entry bundles (C2SP tlog-tiles).

    tile/0/x001/x234/067          256 leaf hashes, 8,192 bytes
    tile/1/000.p/17               17 hashes, each over a full tile of level 0
    tile/entries/000.p/2          00 03 'abc' 00 01 'd': big-endian uint16 lengths

Rules kept here: one path for one resource; a bundle holds exactly the entries its path says.
Whether its hashes are right is left to `follow`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.log.merkle import HASH_BYTES

WIDTH: Final = 256
HEIGHT: Final = 8
ENTRIES: Final = -1
ENTRY_BYTES_MAX: Final = 65_535
BUNDLE_BYTES_MAX: Final = WIDTH * (2 + ENTRY_BYTES_MAX)
LEVEL_MAX: Final = 7  # 256^8 > 2^63


@dataclass(frozen=True, order=True)
class Tile:
    """A resource: `level` 0 to 7 for hashes, -1 (`ENTRIES`) for a bundle; `width` 1 to 256."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its path below the log's prefix."""
        parts = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            parts.append(f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        suffix = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(parts))}{suffix}"

    @property
    def full(self) -> Tile:
        """The full tile at the same place."""
        return Tile(self.level, self.index)

    @property
    def size_bytes_max(self) -> int:
        """The most bytes that the resource can have."""
        return self.width * (2 + ENTRY_BYTES_MAX if self.level == ENTRIES else HASH_BYTES)

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Parse a path; every other spelling of it raises `MalformedError`."""
        parts = path.split("/")
        width = WIDTH
        if len(parts) > 3 and parts[-2].endswith(".p"):
            width = _decimal(parts.pop(), 3)
            parts[-1] = parts[-1].removesuffix(".p")
            if not 1 <= width < WIDTH:
                raise MalformedError("a partial tile is 1 to 255 wide")
        if not 3 <= len(parts) <= 9 or parts[0] != "tile":
            raise MalformedError("a tile path is tile/LEVEL/INDEX")
        level = ENTRIES if parts[1] == "entries" else _decimal(parts[1], 2)
        if level > LEVEL_MAX:
            raise MalformedError(f"tile level {level}; levels above {LEVEL_MAX} cannot exist")
        index = 0
        for position, part in enumerate(parts[2:], start=3):
            digits = part.removeprefix("x") if position < len(parts) else part
            if len(digits) != 3 or not (digits.isascii() and digits.isdigit()):
                raise MalformedError("a tile index is groups of three digits, all but the last after an x")
            index = index * 1000 + int(digits)
        tile = cls(level, index, width)
        if tile.path != path:
            raise MalformedError("a tile path that is not in its canonical form")
        return tile


def _decimal(text: str, digits_max: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > digits_max or (text[0] == "0" and text != "0"):
        raise MalformedError("a number in a tile path is decimal without leading zeros")
    return int(text)


def edge(size: int) -> list[Tile]:
    """The partial hash tiles of a tree, from level 0 up: all that its root depends on."""
    digits = ((level, size >> (HEIGHT * level)) for level in range(LEVEL_MAX + 1))
    return [Tile(level, count // WIDTH, count % WIDTH) for level, count in digits if count % WIDTH]


def tile_at(level: int, index: int, size: int) -> Tile:
    """The tile as a tree of `size` has it. Raises `MalformedError` when that tree has none there."""
    count = size >> (HEIGHT * max(level, 0))
    width = min(count - index * WIDTH, WIDTH)
    if width < 1:
        raise MalformedError("a tile beyond the end of the tree")
    return Tile(level, index, width)


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Entries with their lengths. Raises `LimitError` for one over 65,535 bytes."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > ENTRY_BYTES_MAX:
            raise LimitError(f"a log entry of {len(entry)} bytes; at most {ENTRY_BYTES_MAX} are possible")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def split_bundle(data: bytes, count: int | None = None) -> list[bytes]:
    """The entries of a bundle, exactly `count` of them when given. Raises `MalformedError`."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    try:
        for _ in range(end if count is None else count):
            if at == end:
                break
            start = at + 2
            at = start + (data[at] << 8 | data[at + 1])
            entries.append(data[start:at])
    except IndexError:
        at = -1
    if at != end:
        raise MalformedError("an entry bundle that ends in the middle of an entry, or has more entries than are due")
    if count is not None and len(entries) != count:
        raise MalformedError(f"an entry bundle with {len(entries)} entries where {count} are due")
    return entries


def split_hashes(data: bytes, count: int) -> list[bytes]:
    """The hashes of a tile, exactly `count`. Raises `MalformedError`."""
    if len(data) != count * HASH_BYTES:
        raise MalformedError(f"a hash tile of {len(data)} bytes where {count * HASH_BYTES} are due")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]
