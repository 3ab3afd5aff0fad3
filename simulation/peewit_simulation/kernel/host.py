"""A simulated machine: it boots, crashes, loses its power, pauses, and its clock goes wrong.

Rules kept here: each life has its own loop; a crash freezes it (no `finally` of it ever runs), closes what the
operating system would close, and nothing of that life can touch the world again; the folder stays.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import aiohttp

from peewit_node.peers import PEER_KEEPALIVE_S
from peewit_simulation.kernel.loop import SimLoop, SimSelector
from peewit_simulation.kernel.network import Network
from peewit_simulation.kernel.sockets import SimSocket
from peewit_simulation.kernel.tcp import End, Listener
from peewit_simulation.kernel.world import EPOCH_S, World

FIRST_FD: Final = 1_000_000
SLEEP_LEAST_S: Final = 1e-6


class CrashedError(SystemExit):
    """Raised by a seam that is used by a life that is over."""


class Host:
    """One machine."""

    def __init__(self, world: World, network: Network, name: str, address: str, folder: Path) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.address = address
        self.folder = folder
        self.life = 0
        self.powered = True
        self.paused = False
        self.slow_s = 0.0
        "How much later than others this host notices anything."
        self.skew_s = 0.0
        self.drift = 0.0
        self._local_s = self._since_s = 0.0
        self.loop: SimLoop | None = None
        self.sockets: dict[int, SimSocket] = {}
        self.listeners: dict[int, Listener] = {}
        self.ends: dict[int, End] = {}
        self.at_crash: list[Callable[[], None]] = []
        "Called once when this life ends: what the operating system does for files."
        self.on_error: Callable[[dict[str, Any]], None] = lambda _context: None
        "Told of exceptions that nobody caught."
        self._fds = FIRST_FD
        self._ports = 30_000
        self._wake_s: float | None = None
        self._selector: SimSelector
        network.hosts[address] = self

    # Clocks

    def monotonic(self) -> float:
        """The clock of timers, in seconds."""
        return self._local_s + (self.world.now_s - self._since_s) * (1.0 + self.drift)

    def wall(self) -> float:
        """POSIX seconds, as far as this host knows."""
        return EPOCH_S + self.monotonic() + self.skew_s

    def set_clock(self, skew_s: float, drift: float) -> None:
        """From now on the wall clock is wrong by `skew_s`, and both run faster by `drift`; timers do not jump."""
        self._local_s, self._since_s = self.monotonic(), self.world.now_s
        self.skew_s, self.drift = skew_s, drift
        self.kick()

    # Lives

    @property
    def alive(self) -> bool:
        return self.loop is not None

    def boot(self) -> None:
        """Begin a new life."""
        assert self.loop is None, f"{self.name} is running"
        self.life += 1
        self._wake_s = None
        self.powered, self.paused = True, False
        self.loop = SimLoop(self)
        self.loop.set_exception_handler(lambda _, context: self.on_error(context))
        self._selector = self.loop._selector  # type: ignore[attr-defined]
        self.world.note("boot", self.name)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something on this host."""
        assert self.loop is not None, f"{self.name} is not running"
        task = self.loop.create_task(work)
        self.kick()
        return task

    def crash(self, *, power: bool = False) -> None:
        """End this life at once. With `power`, nobody is told: peers find out by timeouts."""
        if self.loop is None:
            self.powered = self.powered and not power
            return
        self.world.note("crash", self.name, power)
        loop, self.loop = self.loop, None
        self.world.graveyard.append((loop, asyncio.all_tasks(loop), self._selector))
        self.life += 1
        for ends in [list(self.ends.values()), *(list(x.waiting) for x in self.listeners.values())]:
            for end in ends:
                if power:
                    end.vanish()
                else:
                    end.orphaned = True
                    end.close()
        self.powered = not power
        self.ends.clear()
        self.sockets.clear()
        self.listeners.clear()
        for action in self.at_crash:
            action()
        self.at_crash.clear()
        self._wake_s = None
        loop._ready.clear()  # type: ignore[attr-defined]
        loop._scheduled.clear()  # type: ignore[attr-defined]
        loop.close()

    def pause(self) -> None:
        """Stop running, as under SIGSTOP; the operating system goes on."""
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self.kick()

    # Running

    def sleep(self, timeout_s: float | None) -> None:
        """The loop has nothing to do for this long (None: until a socket is ready)."""
        if timeout_s is not None:
            self._wake_at(self.world.now_s + max(SLEEP_LEAST_S, timeout_s / (1.0 + self.drift)))

    def ready(self, fd: int) -> None:
        """A socket's state changed."""
        if self.loop is not None and fd and self._selector.cares(fd):
            self._selector.touched[fd] = None
            self.kick()

    def kick(self) -> None:
        """Run soon: now, or as late as this host notices things."""
        if self.loop is None:
            return
        self._wake_at(self.world.now_s + self.slow_s)

    def _wake_at(self, time_s: float) -> None:
        if self._wake_s is not None and self._wake_s <= time_s:
            return
        self._wake_s = time_s
        life = self.life
        self.world.at(time_s, lambda: self._run(time_s, life))

    def _run(self, time_s: float, life: int) -> None:
        if self._wake_s != time_s or life != self.life or self.loop is None:
            return
        self._wake_s = None
        if not self.paused:
            self.world.running = self.name
            self.loop.run_forever()
            self.world.running = ""

    # Files of the operating system

    def new_fd(self, sock: SimSocket) -> int:
        self._fds += 1
        self.sockets[self._fds] = sock
        return self._fds

    def forget_fd(self, fd: int) -> None:
        self.sockets.pop(fd, None)

    def free_port(self) -> int:
        self._ports += 1
        return self._ports

    # Seams

    def connector(self) -> aiohttp.TCPConnector:
        """How clients on this host connect."""

        def make(info: Any) -> socket.socket:
            return SimSocket(self, family=info[0])  # type: ignore[return-value]

        return aiohttp.TCPConnector(
            limit=0, use_dns_cache=False, keepalive_timeout=PEER_KEEPALIVE_S, socket_factory=make
        )
