"""A node: its parts put together, started and stopped.

    node = await Node.start(config)          ...          await node.stop()

Seams for simulation are ordinary arguments: the clock, randomness, the engine, the connector, and how to
listen. Nothing else in this package reads a clock or draws a random number.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Self

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from peewit_federation.charter import Operator
from peewit_federation.draw.hours import Hours
from peewit_federation.errors import OperatorError, SenderError
from peewit_federation.gossip.feed import Feed
from peewit_federation.keys import sha256
from peewit_federation.log.checkpoint import Checkpoint, Cosignature, cosign
from peewit_federation.oblivious.encapsulation import GatewayKey
from peewit_federation.places import Places
from peewit_federation.statements.operator import CharterNotice
from peewit_federation.statements.operator import Node as NodeStatement
from peewit_node.admin import AdminRoutes
from peewit_node.answers import Answers
from peewit_node.append import Appender
from peewit_node.appointment.areas import Areas
from peewit_node.appointment.door import SignedDoor
from peewit_node.appointment.forward import Forwarder
from peewit_node.appointment.journals import Journals
from peewit_node.appointment.letterboxes import Letterboxes
from peewit_node.appointment.listening import QueueListener
from peewit_node.appointment.mailboxes import Mailboxes
from peewit_node.appointment.queue import Queues
from peewit_node.appointment.told import EPOCH_BYTES, Ledger
from peewit_node.carry import Carrier
from peewit_node.charters import Charters, check_keys, load_charter
from peewit_node.checking.processes import this_machine
from peewit_node.config import NodeConfig
from peewit_node.draw.admission import Admission
from peewit_node.draw.clerk import Clerk
from peewit_node.draw.draw_keys import DrawKeys
from peewit_node.draw.token_keys import TokenKeys
from peewit_node.engine import Engine, StorageError, Write
from peewit_node.forks import Forks
from peewit_node.gossip import Gossip
from peewit_node.http_server import Door
from peewit_node.intake import Intake
from peewit_node.keeper import Keeper
from peewit_node.keyfile import read_key, read_seed, write_key
from peewit_node.listener import Listener
from peewit_node.logs import Logs
from peewit_node.machine import Machine
from peewit_node.migrate import drop_copies
from peewit_node.mirror import Mirror
from peewit_node.node_state import NodeState
from peewit_node.oblivious import Oblivious
from peewit_node.own_log import OwnLog
from peewit_node.peers import Peers
from peewit_node.problems import problems
from peewit_node.restored import confirm, count_start, promise
from peewit_node.routes_client import ClientRoutes
from peewit_node.routes_draw import DrawRoutes
from peewit_node.routes_federation import FederationRoutes
from peewit_node.routes_log import LogRoutes
from peewit_node.routes_mail import MailRoutes
from peewit_node.routes_queue import QueueRoutes
from peewit_node.sqlite import SqliteEngine
from peewit_node.status import Status
from peewit_node.stored_log import Log
from peewit_node.views import Views

DATABASE = "node.sqlite"
BODY_BYTES_MAX = 8 << 20
TIDY_S = 60.0
PROTOCOL_VERSION = 1
logger = structlog.get_logger("peewit.node")


class Node:
    """One running backend."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        *,
        clock: Callable[[], float],
        random: Random,
        connector: Callable[[], aiohttp.BaseConnector] | None,
        machine: Machine,
    ) -> None:
        charter = load_charter(config.charter)
        places = _read_places(config.places) if config.places else None
        log_key, witness_key = (read_key(config.data / f"{name}.key") for name in ("log", "witness"))
        encryption = _encryption_seed(config.data / "encryption.key", random)
        self.state = state = NodeState(config, charter, log_key, witness_key, encryption, clock, machine)
        check_keys(state)
        self.engine = engine
        self.charters = Charters(state, engine, self._charter_taken_over)
        self.feed = Feed(random.randbytes(8))
        self.logs = Logs(engine, lambda: self.state.charter.policy, self._cosign, self._log_changed)
        self.keeper = Keeper(engine, self.logs, charter.constitution, self._registry_changed)
        registry = self.keeper.registry
        loopback = _on_loopback(state.operator.url)
        self.peers = Peers(self._others(), config.gossip, loopback=loopback, connector=connector)
        promised = partial(promise, config.data)
        self.own = OwnLog(self.logs, state.log_key, config.gossip.head_pause_s, promised)
        self.forks = Forks(self.logs, registry, self.own, self.peers, clock, self._registry_changed)
        self.mirror = self.forks.mirror = Mirror(self.logs, self.peers, self.forks.longer)
        self.carrier = Carrier(registry, self.own)
        key, name = state.witness_key, state.operator.name
        times = config.gossip.view_interval_s, clock
        self.views = Views(lambda: self.state.charter, self.logs, registry, self.feed, key, name, *times)
        self.intake = Intake(state, self.logs, registry, self.peers, self.mirror, self.forks, self.views)
        self.gossip = Gossip(state, self.feed, self.logs, registry, self.peers, self.intake, self.views, clock, random)
        self.answers = Answers(engine, self.logs, registry, places, clock)
        self.appender = Appender(state, self.logs, registry, self.carrier, self.forks)
        self.status = Status(state, engine, self.logs, self.keeper, self.peers, self.charters, self.views)
        hours = Hours(registry.rounds)
        self.token_keys = TokenKeys(state, engine, registry, machine)
        self.draw_keys = DrawKeys(state, engine, registry, self.peers, machine, clock, random)
        self.clerk = Clerk(state, engine, self.own, hours, registry.rounds, self.token_keys, self.draw_keys)
        self.admission = Admission(engine, config.admission, state.operator.origin_hash, clock)
        self.draw = DrawRoutes(state, registry, hours, self.token_keys, self.draw_keys, self.admission, random)
        signed = SignedDoor(state, registry)
        self.mailboxes = Mailboxes(
            engine, state.operator.origin_hash, config.limits.mailboxes, config.limits.database_bytes
        )
        self.mail = MailRoutes(state, signed, self.mailboxes)
        self.areas = areas = Areas(state, engine, registry, self.logs)
        self.queues = Queues(state, engine, registry, areas)
        self.queue_routes = QueueRoutes(state, signed, areas, self.queues)
        self.letterboxes = Letterboxes(state, engine, registry, signed)
        self.journals = Journals(state, engine, signed)
        self.gateway_key = GatewayKey.of(encryption)
        self.oblivious = Oblivious(state, self.peers, self.gateway_key, random, connector)
        self.told = Ledger(engine, clock, random.randbytes(EPOCH_BYTES))
        self.forwarder = Forwarder(state, self.queues, areas, self.peers, self.told, clock, random)
        self.listening = QueueListener(state, self.queues, self.peers, signed, self.told)
        self._listener = Listener(config)
        self._sync = asyncio.Event()
        self._own_machine: Machine | None = None

    @classmethod
    async def start(
        cls,
        config: NodeConfig,
        *,
        engine: Engine | None = None,
        clock: Callable[[], float] = time.time,
        random: Random | None = None,
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
        machine: Machine | None = None,
    ) -> Self:
        """Open the database, catch up with it, listen, and begin to gossip."""
        engine = engine or SqliteEngine(config.data / DATABASE)
        own_machine: Machine | None = None
        try:
            machine = machine or (own_machine := await this_machine(config.checkers))
            node = cls(
                config, engine, clock=clock, random=random or SystemRandom(), connector=connector, machine=machine
            )
        except BaseException:
            await engine.close()
            if own_machine is not None:
                await own_machine.close()
            raise
        node._own_machine = own_machine
        try:
            await node._run()
        except OSError as error:
            await node.stop()
            raise OperatorError(f"cannot listen on {config.listen} or in {config.data}: {error}") from None
        except BaseException:
            await node.stop()
            raise
        return node

    async def _run(self) -> None:
        await self.charters.open()
        await self.logs.load()
        await self.own.open()
        await self.keeper.load()
        await self.mailboxes.load()
        restored = await count_start(self.engine, self.state.config.data, self.own.log.stored)
        await self.told.load(fresh=restored)
        for log in self.logs.all():
            self.gossip.news(log, urgent=False)
        self.state.spawn(self.keeper.run(), vital=True)
        self.state.spawn(self.own.run(), vital=True)
        self.state.spawn(self._follow_registry(), vital=True)
        await self._listener.open(self._application, AdminRoutes(self.own, self.status, self.admission).routes())
        self.oblivious.inside = self._listener.inside
        if restored:
            self.state.spawn(confirm(self.state, self.engine, self.own, self.intake, self.peers))
        else:
            self.own.confirmed.set()
        self.gossip.start()
        self.state.spawn(self._begin())
        self.state.spawn(self.charters.watch(), vital=True)
        self.state.spawn(self.clerk.run(), vital=True)
        self.state.spawn(self.forwarder.run(), vital=True)
        self.state.spawn(self.forwarder.look(), vital=True)
        self.state.spawn(self._tidy(), vital=True)
        if isinstance(self.engine, SqliteEngine):
            self.state.spawn(_end_when(self.engine.broken), vital=True)
        logger.info("the node is up", operator=self.state.operator.name, port=self.port, logs=len(self.logs.all()))

    def _application(self, door: Door) -> web.Application:
        app = web.Application(middlewares=[door.watch, problems, self.status.measure], client_max_size=BODY_BYTES_MAX)
        timeout_s = self.state.config.limits.request_timeout_s
        app.add_routes(LogRoutes(self.logs, self.keeper.registry, self.appender, timeout_s).routes())
        app.add_routes(FederationRoutes(self.state, self.gossip, self.views).routes())
        app.add_routes(
            ClientRoutes(self.state, self.logs, self.keeper, self.views, self.answers, self.carrier).routes()
        )
        app.add_routes(self.draw.routes())
        app.add_routes(self.mail.routes())
        app.add_routes(self.queue_routes.routes())
        app.add_routes(self.letterboxes.routes())
        app.add_routes(self.journals.routes())
        app.add_routes(self.listening.routes())
        app.add_routes(self.oblivious.routes())
        app.add_routes(self.status.routes())
        return app

    async def _begin(self) -> None:
        await self._introduce()
        await self.forks.resume()

    async def _introduce(self) -> None:
        """Say in our own log where we are and which charter we use, if that is not what it says last."""
        operator, charter = self.state.operator, self.state.charter
        encryption = self.state.encryption_public
        mine = [
            NodeStatement(
                operator.url, self.state.witness_key.public, (PROTOCOL_VERSION,), encryption, self.gateway_key.public
            ).encode(),
            CharterNotice(charter.number, charter.digest).encode(),
        ]
        key = f"said-{sha256(*mine).hex()}"
        if not await self.engine.fetch("SELECT 1 FROM facts WHERE name = ?", key):
            await self.own.append(*mine)
            await self.engine.write(Write("INSERT INTO facts VALUES (?, ?)", (key, b"")))

    # What follows from what

    def _log_changed(self, log: Log, whole: bool) -> None:
        self.views.changed()
        self.keeper.grew(log)
        self.gossip.news(log, urgent=whole)
        if log is self.own.log:
            self.own.quorum.set()

    def _registry_changed(self) -> None:
        self._sync.set()

    async def _follow_registry(self) -> None:
        """After every fold: act on evidence and closes, and look again at heads that were refused."""
        counted = -1
        while True:
            await self._sync.wait()
            self._sync.clear()
            try:
                await self.forks.sync()
            except StorageError as error:
                logger.warning("a fork could not be dealt with yet", reason=str(error))
                await asyncio.sleep(self.state.config.gossip.interval_s)
                self._sync.set()
            self.intake.reconsider()
            self.views.changed()
            if self.keeper.registry.generation != counted:
                # Whoever changed it: nothing else may come for a long time that would have it folded.
                counted = self.keeper.registry.generation
                self.gossip.recount()
                self.keeper.poke()
            elif self.keeper.registry.unsettled():
                await asyncio.sleep(self.state.config.gossip.interval_s)
                self._sync.set()

    def _cosign(self, checkpoint: Checkpoint) -> tuple[str, Cosignature] | None:
        if not self.state.operator.votes:
            return None
        name = self.state.operator.witness.name
        return name, cosign(checkpoint, name, self.state.witness_key, int(self.state.now()))

    async def _tidy(self) -> None:
        """Delete what has ended."""
        while True:
            try:
                await self.mailboxes.expire(self.state.now())
                await self.queues.expire()
                await self.letterboxes.expire(self.state.now())
                await self.journals.expire(self.state.now())
                await self.engine.scrub()
                drop_copies(self.state.config.data / DATABASE, self.state.now())
            except (StorageError, OSError) as error:
                logger.warning("what has ended could not be deleted yet", reason=str(error))
            await asyncio.sleep(TIDY_S)

    def _others(self) -> list[Operator]:
        return [o for o in self.state.charter.operators if o.name != self.state.config.operator]

    async def _charter_taken_over(self) -> None:
        self.peers.replace(self._others())
        self.keeper.registry.reconstitute(self.state.charter.constitution)
        self.keeper.poke()
        await self.logs.recount()
        self.views.recount()
        await self._introduce()

    @property
    def port(self) -> int:
        """At which it listens."""
        return self._listener.port

    # The end

    async def wait_failed(self) -> None:
        """Return when a part that must never end has ended."""
        await self.state.failed.wait()

    async def stop(self) -> None:
        """Finish requests, stop talking, and close the database."""
        self._listener.refuse()
        await self.gossip.stop()
        await self.intake.fetcher.stop()
        await self._listener.close()
        await self.state.cancel_all()
        await self.peers.close()
        await self.oblivious.close()
        if self._own_machine is not None:
            await self._own_machine.close()
        await self.engine.close()
        self._listener.forget()


def _read_places(path: Path) -> Places:
    try:
        return Places.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SenderError) as error:
        raise OperatorError(f"places: {path}: {error}") from None


def _encryption_seed(path: Path, random: Random) -> bytes:
    """The seed of the key that others seal to; made at the first start, and again if it was lost."""
    if not path.exists():
        write_key(path, random.randbytes(32))
    return read_seed(path)


async def _end_when(broken: asyncio.Event) -> None:
    await broken.wait()


def _on_loopback(url: str) -> bool:
    """Whether a node is only reached on this machine, as in a demonstration: then its peers may be, too."""
    host = (URL(url).host or "").strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
