"""Checking a whole log of any operator: fetches everything below a tlog-tiles prefix, and keeps nothing.

Rules kept here: memory stays bounded whatever the log's size; each file is checked against the checkpoint
before it counts; an earlier checkpoint must be a prefix of the new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from peewit_clients.backend import BackendError
from peewit_federation.errors import ForgeryError, LimitError, OperatorError, UnknownError
from peewit_federation.log.checkpoint import Checkpoint, open_cosignature
from peewit_federation.log.follow import Follow
from peewit_federation.log.merkle import HASH_BYTES, CompactRange
from peewit_federation.log.note import ED25519, NOTE_BYTES_MAX, Note, VerifierKey
from peewit_federation.log.tiles import ENTRIES, HEIGHT, WIDTH, Tile, encode_bundle, split_bundle

PARALLEL = 8


@dataclass(frozen=True)
class Checked:
    """What a log was found to be."""

    checkpoint: Checkpoint
    note: bytes
    signed_by: list[str]
    unknown: int
    "Signatures of keys that were not named."
    entries_bytes: int
    seconds: float


async def check_log(
    session: aiohttp.ClientSession,
    prefix: str,
    keys: Sequence[VerifierKey],
    origin: str | None,
    before: bytes | None,
    progress: Callable[[int, int], None],
) -> Checked:
    """Verify everything. Raises `ForgeryError` naming the file that does not hold."""
    start = time.perf_counter()
    data = await _get(session, f"{prefix}/checkpoint", NOTE_BYTES_MAX)
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    if origin is not None and checkpoint.origin != origin:
        raise ForgeryError(f"the checkpoint is of {checkpoint.origin}")
    signed = _signers(note, checkpoint, keys)
    if keys and not signed:
        raise ForgeryError("none of the given keys signed the checkpoint")
    follow = Follow(checkpoint, CompactRange(), thorough=True)
    earlier = Checkpoint.parse(Note.parse(before).text) if before else None
    if earlier is not None and earlier.origin != checkpoint.origin:
        raise OperatorError(f"the saved checkpoint is of another log, {earlier.origin}")
    if earlier is not None and earlier.size > checkpoint.size:
        raise ForgeryError(f"the log was at {earlier.size} entries of {earlier.origin} before: it was rolled back")
    tiles = await asyncio.gather(*(_tile(session, prefix, tile) for tile in follow.hash_tiles))
    follow.accept_hashes(dict(zip(follow.hash_tiles, tiles, strict=True)))
    tree, entries_bytes, seen = CompactRange(), 0, earlier is None or earlier.size == 0
    window: list[asyncio.Task[bytes]] = []
    ahead = iter(follow.bundles)
    try:
        for tile in follow.bundles:
            while len(window) < PARALLEL and (following := next(ahead, None)) is not None:
                window.append(asyncio.create_task(_tile(session, prefix, following)))
            bundle = follow.accept_bundle(tile, await window.pop(0))
            entries_bytes += len(bundle.data) - 2 * len(bundle.leaves)
            if earlier is not None and tree.size < earlier.size <= tree.size + len(bundle.leaves):
                middle = tree.copy()
                middle.extend(bundle.leaves[: earlier.size - tree.size])
                if middle.root() != earlier.root:
                    raise ForgeryError(f"the log's first {earlier.size} entries are not what they were: it forked")
                seen = True
            if bundle.root is not None:
                tree.append_subtree(HEIGHT, bundle.root)
            else:
                tree.extend(bundle.leaves)
            progress(tree.size, checkpoint.size)
    finally:
        for task in window:
            task.cancel()
    assert seen, "an earlier checkpoint was not compared"
    if tree.root() != checkpoint.root:
        raise ForgeryError("the entries do not lead to the checkpoint's root")
    return Checked(
        checkpoint, data, signed, len(note.signatures) - len(signed), entries_bytes, time.perf_counter() - start
    )


def _signers(note: Note, checkpoint: Checkpoint, keys: Sequence[VerifierKey]) -> list[str]:
    plain = [key for key in keys if key.algorithm == ED25519]
    names = [key.name for key in note.verify(plain)]
    for key in keys:
        if key.algorithm != ED25519:
            for signature in note.signatures:
                if signature.is_by(key):
                    open_cosignature(checkpoint, signature, key)
                    names.append(key.name)
    return names


async def _tile(session: aiohttp.ClientSession, prefix: str, tile: Tile) -> bytes:
    try:
        return await _get(session, f"{prefix}/{tile.path}", tile.size_bytes_max)
    except UnknownError:
        if tile.width == WIDTH:
            raise
    body = await _get(session, f"{prefix}/{tile.full.path}", tile.full.size_bytes_max)
    if tile.level == ENTRIES:
        return encode_bundle(split_bundle(body, WIDTH)[: tile.width])
    return body[: tile.width * HASH_BYTES]


async def _get(session: aiohttp.ClientSession, url: str, size_bytes_max: int) -> bytes:
    async with session.get(url, allow_redirects=False) as response:
        if response.status == 404:
            raise UnknownError(f"{url}: not there")
        if response.status != 200:
            raise BackendError(f"{url}: HTTP status {response.status}", response.status)
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > size_bytes_max:
                raise LimitError(f"{url}: more than {size_bytes_max} bytes")
            parts.append(part)
        return b"".join(parts)
