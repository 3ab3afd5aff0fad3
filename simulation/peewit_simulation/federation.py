"""A federation in a simulated world: its charter, its nodes on their hosts, and who else is there.

Rules kept here: nodes are the real `Node`, started with the seams that anybody may use; keys come from the seed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import structlog

from peewit_clients.charters import Card, Draw, compose_charter, usual_quorum
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_federation.log.policy import WITNESSES_MAX
from peewit_node.config import Admission, Gossip, Limits, NodeConfig
from peewit_node.node import DATABASE, Node
from peewit_node.setup import init_node
from peewit_simulation.history import History
from peewit_simulation.kernel.host import Host
from peewit_simulation.kernel.network import Conditions, Network
from peewit_simulation.kernel.world import World
from peewit_simulation.machine import SimMachine
from peewit_simulation.storage import SimEngine

PORT: Final = 8100
MEMORY: Final = Path("/dev/shm")  # noqa: S108
FOUNDED_KEYS: Final = 0
T = TypeVar("T")
MakeEngine = Callable[[Host, Path], SimEngine]


class Simulation:
    """A world with a federation in it."""

    def __init__(
        self,
        seed: int,
        nodes: int = 4,
        *,
        gossip: Gossip | None = None,
        conditions: Conditions | None = None,
        engine: MakeEngine = SimEngine,
        freshness_s: tuple[int, int] = (15, 40),
        founded: Path | None = None,
        draw: Draw | None = None,
    ) -> None:
        """`founded` is a folder that `keep` made of another world with as many nodes: its federation goes on here."""
        self.world = World(seed)
        self._keys = FOUNDED_KEYS if founded else seed
        self.network = Network(self.world, conditions)
        self.folder = Path(tempfile.mkdtemp(prefix=f"peewit-{os.getpid()}-", dir=MEMORY if MEMORY.is_dir() else None))
        self.hosts: dict[str, Host] = {}
        self.nodes: dict[str, Node] = {}
        "Nodes that run, by the name of their operator."
        self.names = tuple(f"n{number:03}" for number in range(nodes))
        self._engine = engine
        self._freshness_s = freshness_s
        self.history = History(self.world)
        self.liars: set[str] = set()
        "Nodes that do not keep to the protocol."
        self.people: dict[str, Callable[[], None]] = {}
        "How to start who is no node, by the name of the host."
        self.backups: dict[str, dict[str, bytes]] = {}
        "By host: its files, as they were when they were copied."
        self.closed: dict[bytes, list[bytes]] = {}
        "By origin hash: the entries at which a root closed a log."
        self._draw = draw
        self._machine = SimMachine()
        self._gossip = gossip or Gossip(view_interval_s=10.0, backoff_max_s=8.0)
        self.log_lines: list[str] | None = None
        "Lines that nodes log, if somebody wants them."
        self.errors: list[str] = []
        self.charter = self._found(founded)

    def __enter__(self) -> Self:
        structlog.configure(processors=[self._log])
        return self

    def _log(self, _: object, level: str, event: MutableMapping[str, Any]) -> str:
        """What nodes log goes to those who watch, and into the run's digest."""
        line = " ".join(f"{key}={value}" for key, value in event.items() if key != "exc_info")
        line = line.replace(str(self.folder), "~")
        for watch in self.world.watchers:
            watch(line.encode())
        self.world.note("log", level, line)
        if self.log_lines is not None:
            self.log_lines.append(f"{self.world.now_s:9.3f} {level} {line}")
        if level in ("error", "critical"):
            self._error(self.world.running, {"message": line, "exception": event.get("exc_info")})
        raise structlog.DropEvent

    def __exit__(self, *_: object) -> None:
        structlog.reset_defaults()
        for host in self.hosts.values():
            host.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def seed_of(self, *name: object) -> bytes:
        """32 bytes for a key."""
        return hashlib.sha256(repr((self._keys, *name)).encode()).digest()

    def keep(self, folder: Path) -> None:
        """Stop everything, and keep the nodes' folders for other worlds. The seed must be `FOUNDED_KEYS`."""
        assert self.world.seed == FOUNDED_KEYS
        for host in self.hosts.values():
            host.crash()
        shutil.copytree(self.folder, folder)

    def _found(self, founded: Path | None) -> Charter:
        if founded:
            shutil.copytree(founded, self.folder, dirs_exist_ok=True)
        cards = []
        for number, name in enumerate(self.names):
            host = self.add_host(name, f"127.1.{number // 200}.{number % 200 + 1}")
            if founded:
                continue
            seeds = tuple(self.seed_of(name, part) for part in ("log", "witness", "charter"))
            url = f"http://{host.address}:{PORT}"
            region = (str(number % 10),)
            made = init_node(host.folder, name, url, f"{host.address}:{PORT}", region, "../charter.toml", seeds)
            cards.append(Card.parse(made.encode()))
        if founded:
            return parse_charter((self.folder / "charter.toml").read_bytes())
        voters = min(len(cards), WITNESSES_MAX)
        text = compose_charter(
            "simulated", cards, usual_quorum(voters), mirrors=self.names[voters:], freshness_s=self._freshness_s,
            draw=self._draw,
        )  # fmt: skip
        (self.folder / "charter.toml").write_text(text, encoding="utf-8")
        return parse_charter(text.encode())

    def add_host(self, name: str, address: str) -> Host:
        """A machine that is not running yet."""
        host = Host(self.world, self.network, name, address, self.folder / name)
        host.on_error = partial(self._error, name)
        self.hosts[name] = host
        return host

    def _error(self, name: str, context: dict[str, Any]) -> None:
        if name not in self.liars:
            self.errors.append(f"{self.world.now_s:.3f} {name}: {context.get('message')}: {context.get('exception')!r}")

    def config(self, name: str) -> NodeConfig:
        """The configuration of a node."""
        host = self.hosts[name]
        return NodeConfig(
            operator=name,
            charter=self.folder / "charter.toml",
            data=host.folder,
            listen=f"{host.address}:{PORT}",
            gossip=self._gossip,
            limits=Limits(),
            admission=Admission(kind="open", per_minute=100_000, groups=("over80",)),
        )

    def start(self, *names: str) -> None:
        """Boot nodes (all that are not running, if none are named)."""
        for name in names or [n for n in self.names if not self.hosts[n].alive]:
            host = self.hosts[name]
            host.boot()
            host.at_crash.append(partial(self._gone, name))
            host.spawn(self._run(name))

    def _gone(self, name: str) -> None:
        self.nodes.pop(name, None)

    async def _run(self, name: str) -> None:
        host = self.hosts[name]
        engine = self._engine(host, host.folder / DATABASE)
        engine.watchers.append(self.history.watcher(name))
        self.nodes[name] = await Node.start(
            self.config(name),
            engine=engine,
            clock=host.wall,
            random=self.world.stream("node", name, host.life),
            connector=host.connector,
            machine=self._machine,
        )

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; whether `until()` came true."""
        return self.world.run(self.world.now_s + seconds, until)

    def on(self, name: str, work: Coroutine[Any, Any, T], within_s: float = 30.0) -> T:
        """Run something on a host, let time pass, and give what it returns."""
        task = self.hosts[name].spawn(work)
        self.run(within_s, task.done)
        assert task.done(), f"{name} did not finish"
        found: T = task.result()
        return found

    def honest(self) -> dict[str, Node]:
        """Nodes that run and keep to the protocol."""
        return {name: node for name, node in self.nodes.items() if name not in self.liars}

    def converged(self) -> bool:
        """Whether all honest nodes run, and have the same registry and the same heads."""
        nodes = self.honest()
        if len(nodes) + len(self.liars) < len(self.names) or not all(n.keeper.idle.is_set() for n in nodes.values()):
            return False
        return len({self._state(node) for node in nodes.values()}) == 1

    @staticmethod
    def _state(node: Node) -> tuple[bytes, ...]:
        """What must be equal. Of a fork that nobody has closed, each side folds its own branch."""
        registry = node.keeper.registry
        open_ = {
            mediator
            for mediator, cuts in registry.cuts.items()
            if any(registry.forked(origin) and not cut.settled for origin, cut in cuts.items())
        }
        folds = [fold.digest() for mediator, fold in sorted(registry.folds.items()) if mediator not in open_]
        return node.views.lines().root, *(folds if open_ else [registry.digest()])


def sweep() -> None:
    """Remove the folders of worlds whose process was ended before it could."""
    parent = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    for path in parent.glob("peewit-*-*"):
        process = path.name.split("-")[1]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, PermissionError):
            continue
