"""Was this node put back from a backup? Then it must not write its own log before it knows how long that is.

Rules kept here (design 4.3): a counter of starts stands in the database and beside the keys, and beside the keys also
how long the own log is, written before a head leaves. If the counters differ, or the log is shorter, the database is
older (or newer) than the keys' folder, and the own log is written only after a quorum of nodes has said how long it is
and everything that any of them has is back. (Reading back views and cosignatures of other logs
belongs to the rules of restoring, which come later.)
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import structlog

from peewit_federation.api import ANSWER_BYTES_MAX, open_heads
from peewit_federation.errors import SenderError
from peewit_federation.gossip.feed import HeadItem
from peewit_node.engine import Engine, Write
from peewit_node.intake import Intake
from peewit_node.node_state import NodeState
from peewit_node.own_log import OwnLog
from peewit_node.peers import PeerError, Peers

COUNTER: Final = "starts"
LENGTH: Final = "own-log-size"
RETRY_S: Final = 1.0
PUT: Final = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"
logger = structlog.get_logger("peewit.restored")


def promise(folder: Path, size: int) -> None:
    """Write down, durably, that a head of the own log with so many entries is about to leave."""
    _write(folder / LENGTH, str(size))


async def count_start(engine: Engine, folder: Path, size: int) -> bool:
    """Count this start, with so many entries in the own log.

    True if the database was put back from a backup and not yet confirmed since.
    """
    found = await engine.fetch("SELECT name, body FROM facts WHERE name IN ('starts', 'restored')")
    rows: dict[str, bytes] = dict(found)
    inside = int(rows.get("starts", b"0"))
    outside = _read(folder / COUNTER)
    # The file is written last, so a crash between the two leaves it one behind.
    restored = "restored" in rows or outside not in (inside, inside - 1) or not 0 <= _read(folder / LENGTH) <= size
    started = str(max(inside, outside) + 1)
    writes = [Write(PUT, ("starts", started.encode()))]
    if restored:
        writes.append(Write(PUT, ("restored", b"1")))
    await engine.write(*writes)
    _write(folder / COUNTER, started)
    return restored


def _read(path: Path) -> int:
    """A number in a file: 0 if there is none, -1 if it is damaged."""
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except ValueError:
        return -1


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


async def confirm(state: NodeState, engine: Engine, own: OwnLog, intake: Intake, peers: Peers) -> None:
    """Wait until a quorum has told how long our log is and we hold all of it; then let it be written again."""
    logger.warning("the database was put back from a backup; asking the others how long our own log is")
    path = f"/v1/heads?log={own.log.origin.hex()}"
    while True:
        answered: set[str] = set()
        longest = 0
        for peer in list(peers.all.values()):
            try:
                ((newest, _),) = open_heads(await peers.get(peer, path, ANSWER_BYTES_MAX), 1)
                if newest:
                    longest = max(longest, intake.size_of(newest))
                    state.spawn(intake.take_head(HeadItem(newest), peer))
            except (PeerError, SenderError) as error:
                logger.info("a peer could not tell", peer=peer.name, reason=str(error))
                continue
            answered.add(peer.operator.witness.name)
        enough = state.charter.policy.satisfied(answered) or len(answered) == len(peers.all)
        if enough and own.log.size >= longest:
            break
        await asyncio.sleep(RETRY_S)
    await engine.write(Write("DELETE FROM facts WHERE name = 'restored'"))
    own.confirmed.set()
    logger.warning("our own log is whole again", entries=own.log.size)
