"""What `peewit node init` makes: keys, a commented configuration, an empty database, and a card.

The card holds what others may know of the node; `peewit charter new` makes a charter out of cards.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peewit_federation.errors import OperatorError, SenderError
from peewit_federation.keys import PublicKey
from peewit_federation.log.checkpoint import log_key, witness_key
from peewit_federation.log.note import ED25519, VerifierKey
from peewit_federation.statements.codec import NODE_URL
from peewit_node.config import NodeConfig
from peewit_node.keyfile import write_key
from peewit_node.node import DATABASE
from peewit_node.sqlite import SqliteFile

LAST: Final = "log.key"
CONFIG = """\
# A Peewit node. Every key can be set in the environment too, for example
# PEEWIT_NODE_LISTEN=127.0.0.1:9000 or PEEWIT_NODE_GOSSIP__INTERVAL_S=5.

operator = "{operator}"             # which operator of the charter this node is
charter = "{charter}"     # relative to this file
data = "."                        # keys and database
listen = "{listen}"       # plain HTTP on loopback only; see [tls]

# checkers = 1                    # processes that check signatures; else one for each core but the first, at most 4
# places = "postcodes.csv"        # lets clients search by distance at this node

# [tls]                           # or leave it out and put a proxy in front
# certificate = "fullchain.pem"
# key = "privkey.pem"

[gossip]
# interval_s = 1.0                # between two ticks, each an exchange with a random peer
# view_interval_s = 60.0          # at most one view in this time
# timeout_s = 10.0                # for one request to a peer
# backoff_max_s = 60.0            # the longest pause between two tries to fetch a log
# hint_peers = 3                  # random peers that are told of news at once
# concurrency = 8                 # logs that are mirrored at once
# private_peers = false           # peers' names may lead to private addresses
# proxy = "http://127.0.0.1:3128" # for all outbound requests

[admission]                       # whom this node admits to the draw
# kind = "codes"                  # signup codes; or "work", or "open"
# groups = ["over80"]             # groups besides everybody
# work_bits = 20                  # leading zero bits of a proof of work
# per_minute = 600                # how many are admitted, if it is open

[limits]
# connections = 2000
# mailboxes = 1000000
# database_bytes = 68_719_476_736  # beyond it no messages are taken
# letters = 500                    # of practices, that wait for one mediator
# journal_bytes = 268_435_456      # of one practice's journal
# request_timeout_s = 30.0        # for a request's head, and for its body
# operator_entries = 10000000     # mirrored of one operator's log
"""


@dataclass(frozen=True)
class Card:
    """What others may know of a node that is not yet in a charter."""

    name: str
    url: str
    region: tuple[str, ...]
    log: str
    "vkey"
    witness: str
    "vkey"
    charter_key: str
    "vkey"

    def encode(self) -> str:
        return json.dumps({**self.__dict__, "region": list(self.region)}, indent=2) + "\n"


def init_node(
    folder: Path, operator: str, url: str, listen: str, region: tuple[str, ...], charter: str, seeds: tuple[bytes, ...]
) -> Card:
    """Make a node's folder. `seeds` are three times 32 random bytes: log, witness and charter key."""
    check_new(folder, operator, url, listen, region)
    # Made aside and moved, the log's key last: what was cut short before that is no node, and is made again.
    made = folder / ".new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        card = _make(made, operator, url, listen, region, charter, seeds)
        for path in sorted(made.iterdir(), key=lambda path: (path.name == LAST, path.name)):
            path.replace(folder / path.name)
    except OSError as error:
        raise OperatorError(f"{folder}: {error.strerror}; nothing that counts was made") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return card


def _make(
    folder: Path, operator: str, url: str, listen: str, region: tuple[str, ...], charter: str, seeds: tuple[bytes, ...]
) -> Card:
    log, witness, offline = (
        write_key(folder / f"{name}.key", seed) for name, seed in zip(("log", "witness", "charter"), seeds, strict=True)
    )
    host = url.split("://", 1)[1].split("/", 1)[0].split(":", 1)[0]
    offline_key = VerifierKey(f"{operator}/charter", ED25519, PublicKey(offline.public))
    cosigner = witness_key(f"{operator}.{host}/witness", witness.public)
    card = Card(operator, url, region, str(log_key(log.public)), str(cosigner), str(offline_key))
    (folder / "card.json").write_text(card.encode(), encoding="utf-8")
    config = CONFIG.format(operator=operator, listen=listen, charter=charter)
    (folder / "node.toml").write_text(config, encoding="utf-8")
    SqliteFile(folder / DATABASE).close()
    return card


def check_new(folder: Path, operator: str, url: str, listen: str, region: tuple[str, ...]) -> None:
    """Refuse what others would refuse later, and a folder that holds a node already. Raises `OperatorError`."""
    if (folder / LAST).exists():
        raise OperatorError(f"{folder / LAST} exists already; keys are never overwritten")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", operator, re.ASCII):
        raise OperatorError("--operator: a name in small letters, digits and hyphens")
    try:
        NODE_URL.check(url)
    except SenderError:
        raise OperatorError("--url: for example https://north.example, without a path or a user") from None
    if url.startswith("http://") and not re.match(r"http://(127\.|localhost|\[::1\])", url):
        raise OperatorError("--url: plain HTTP is only for nodes that are reached on this machine; use https://")
    if not all(re.fullmatch(r"[0-9]{1,5}", prefix, re.ASCII) for prefix in region):
        raise OperatorError("--region: postcode prefixes of one to five digits, separated by commas")
    try:
        NodeConfig(operator=operator, charter=Path("charter.toml"), data=Path(), listen=listen)
    except ValueError:
        raise OperatorError(
            "--listen: HOST:PORT on loopback, for example 127.0.0.1:8100; TLS is set in node.toml"
        ) from None
