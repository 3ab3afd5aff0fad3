"""The vocabulary of faults: what can go wrong, as data that can be drawn, written down, shortened and repeated.

    Fault(10.0, "partition", (("n000", "n001"), ("n002", "n003")))
    Fault(70.0, "heal")

Rules kept here: a fault that makes no sense at its time (crashing what is down) does nothing, so that any part
of a list of faults can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from peewit_simulation.federation import Simulation
from peewit_simulation.kernel.network import Pair


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at a time, in seconds after the beginning of the faults."""

    at_s: float
    do: str
    with_: tuple[Any, ...] = ()


def apply(sim: Simulation, fault: Fault) -> None:
    """Let it happen now. Raises `ValueError` for a fault that nobody knows."""
    action = ACTIONS.get(fault.do)
    if action is None:
        raise ValueError(f"there is no fault {fault.do!r}; there are {', '.join(sorted(ACTIONS))}")
    action(sim, *fault.with_)


def partition(sim: Simulation, *sides: tuple[str, ...]) -> None:
    """Cut the sides from each other. Hosts that are on no side stay connected with all."""
    for i, one in enumerate(sides):
        for other in sides[i + 1 :]:
            sim.network.cut(_pairs(one, other))
            sim.network.cut(_pairs(other, one))


def partition_oneway(sim: Simulation, source: tuple[str, ...], target: tuple[str, ...]) -> None:
    """Nothing gets from `source` to `target`; the other way is open."""
    sim.network.cut(_pairs(source, target))


def heal(sim: Simulation) -> None:
    """All links are open again; what they lose and how long they take stays as it is."""
    sim.network.mend()


def crash(sim: Simulation, name: str, power: bool = False) -> None:
    """A process is killed, or with `power` its machine goes dark: then nobody is told."""
    sim.hosts[name].crash(power=power)


def restart(sim: Simulation, name: str) -> None:
    """A node, the district or a client comes back with what is on its disk."""
    if not sim.hosts[name].alive:
        sim.people.get(name, lambda: sim.start(name))()


def backup(sim: Simulation, name: str) -> None:
    """A copy of a practice's disk is made, as it is now."""
    sim.backups[name] = {file.name: file.read_bytes() for file in sim.hosts[name].folder.iterdir() if file.is_file()}


def put_back(sim: Simulation, name: str) -> None:
    """Its machine dies; another one begins with the copy."""
    copy = sim.backups.get(name)
    if copy is not None:
        crash(sim, name)
        for file in sim.hosts[name].folder.iterdir():
            if file.is_file():
                file.unlink()
        for file_name, data in copy.items():
            file = sim.hosts[name].folder / file_name
            file.touch(mode=0o600)
            file.write_bytes(data)
        restart(sim, name)


def pause(sim: Simulation, name: str) -> None:
    """A process stands still, and its connections stay open."""
    sim.hosts[name].pause()


def resume(sim: Simulation, name: str) -> None:
    """It goes on."""
    if sim.hosts[name].paused:
        sim.hosts[name].resume()


def skew(sim: Simulation, name: str, seconds: float, drift: float = 0.0) -> None:
    """A host's clock is wrong, and runs at another speed from now on."""
    sim.hosts[name].set_clock(seconds, drift)


def slow(sim: Simulation, name: str, seconds: float) -> None:
    """A host notices everything that much later."""
    sim.hosts[name].slow_s = seconds


def lose(sim: Simulation, share: float, *names: str) -> None:
    """A share of segments is lost on all links of these hosts (of all, if none are named)."""
    everybody = tuple(sim.hosts)
    chosen = names or everybody
    sim.network.shape([*_pairs(chosen, everybody), *_pairs(everybody, chosen)], loss=share)


def delay(sim: Simulation, seconds: float, *names: str) -> None:
    """All links of these hosts take that much longer."""
    everybody = tuple(sim.hosts)
    chosen = names or everybody
    sim.network.shape([*_pairs(chosen, everybody), *_pairs(everybody, chosen)], latency_s=seconds)


def hold(sim: Simulation, source: tuple[str, ...], target: tuple[str, ...]) -> None:
    """What is sent in this direction waits until `release`."""
    sim.network.hold(_pairs(source, target))


def release(sim: Simulation) -> None:
    """All that was held goes on, in order."""
    sim.network.release()


def _pairs(one: tuple[str, ...], other: tuple[str, ...]) -> list[Pair]:
    return [pair for pair in product(one, other) if pair[0] != pair[1]]


ACTIONS: Final[dict[str, Any]] = {
    action.__name__: action
    for action in (
        partition, partition_oneway, heal, crash, restart, backup, put_back, pause, resume, skew, slow, lose, delay,
        hold, release,
    )
}  # fmt: skip


def calm(sim: Simulation) -> None:
    """Faults stop: every link and host is well again."""
    heal(sim)
    sim.network.unshape()
    release(sim)
    for name, host in sim.hosts.items():
        resume(sim, name)
        host.slow_s = 0.0
        host.set_clock(0.0, 0.0)
    for name in sim.names:
        restart(sim, name)
