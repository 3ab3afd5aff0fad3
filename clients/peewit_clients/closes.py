"""What the root says of devices' logs: handed to nodes, which carry it; and where such a log ends.

Rules kept here: a close names a position and a root hash, so that it picks a branch; who took it and why others did not
is told; it is effective when a quorum has cosigned an operator's log that carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.device_file import DATABASE, DeviceFile
from peewit_clients.identity import Identity
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation.api import Append
from peewit_federation.errors import RefusedError, UnknownError
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Head, origin_hash, origin_of
from peewit_federation.log.merkle import CompactRange, leaf_hash
from peewit_federation.log.tiles import encode_bundle
from peewit_federation.statements.carried import Close, sign_close
from peewit_federation.statements.kinds import OPERATOR_KINDS, read_entry
from peewit_federation.statements.operator import Carried


async def close_device(
    view: RegistryView,
    identity: Identity,
    root: SigningKey,
    origin: bytes,
    *,
    entries: list[bytes] | None = None,
    size: int | None = None,
) -> tuple[bytes, Close]:
    """The signed close of a device's log: at `size`, on the branch of `entries` (or of what nodes have)."""
    if entries is None:
        copy = view.follower.copies.get(origin)
        if copy is None:
            raise UnknownError("no node has this log; give the device's own folder")
        entries = copy.entries
    at = len(entries) if size is None else size
    if at > len(entries):
        raise UnknownError(f"the log has {len(entries)} entries here; it cannot be closed at {at}")
    tree = CompactRange()
    tree.extend(map(leaf_hash, entries[:at]))
    close = Close(identity.id, root.public, origin, at, tree.root())
    return sign_close(close, root), close


async def hand_in(pool: BackendPool, statement: bytes, write: int = 2) -> tuple[list[str], dict[str, str]]:
    """Give a carried statement to `write` nodes: who took it, and why others did not."""
    taken: list[str] = []
    failures: dict[str, str] = {}
    refused = False
    for backend in pool.order():
        try:
            await pool.post(backend, "/v1/statements", statement)
            taken.append(backend.name)
        except BackendError as error:
            failures[backend.name] = str(error)
            refused = refused or 400 <= error.status < 500
        if len(taken) >= write:
            break
    if not taken and refused:
        raise RefusedError("every node that answered refused it: " + "; ".join(dict.fromkeys(failures.values())))
    if not taken:
        raise UnreachableError("no node took it: " + "; ".join(f"{n}: {why}" for n, why in failures.items()))
    return taken, failures


async def bring_branch(pool: BackendPool, device: DeviceFile, close: Close, names: Sequence[str]) -> list[str]:
    """Give the entries that a close picked to nodes that have the close, for perhaps none has them all; who took it."""
    head = device.head_after(close.size - 1)
    if head is None or (head.size, head.root) != (close.size, close.root_hash):
        return []  # it ends between two heads, so nodes were shown all of it
    body = Append(0, encode_bundle(device.entries(0, close.size)), head.encode(), device.device).encode()
    taken = []
    for backend in (b for b in pool.order() if b.name in names):
        try:
            await pool.post(backend, f"/v1/log/{close.origin_hash.hex()}/append", body)
            taken.append(backend.name)
        except BackendError as error:
            pool.complain(backend.name, f"did not take the closed branch: {error}")
    return taken


def statement_effective(view: RegistryView, statement: bytes) -> int:
    """How many nodes have cosigned an operator's head that carries a statement; a quorum makes it effective."""
    best = 0
    for operator in view.charter.operators:
        copy = view.follower.copies.get(operator.origin_hash)
        for index, entry in enumerate(copy.entries if copy else []):
            carried = read_entry(entry, OPERATOR_KINDS)
            if isinstance(carried, Carried) and carried.statement == statement and copy is not None:
                heads: list[Head] = [head for head in (copy.head, copy.quorum) if head and head.size > index]
                best = max([best, *(len(head.witnesses) for head in heads)])
    return best


def device_here(folder: Path, name: str) -> Path | None:
    """The folder of a device that is kept here, by its name or its log's origin hash; None if it is not here."""
    path = folder / "devices" / name
    if path.is_dir():
        return path
    here = sorted((folder / "devices").glob(f"*/{DATABASE}"))
    return next((file.parent for file in here if _origin_in(file.parent).hex() == name.lower()), None)


def _origin_in(path: Path) -> bytes:
    with DeviceFile.look(path) as device:
        return origin_hash(origin_of(device.log))


def origin_of_device(folder: Path, name: str) -> bytes:
    """The origin hash of a device that is known here, or given in hexadecimal."""
    path = device_here(folder, name)
    if path is not None:
        return _origin_in(path)
    try:
        found = bytes.fromhex(name)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise UnknownError(f"there is no device {name!r} in {folder}; give its name, or its log's origin hash")
    return found
