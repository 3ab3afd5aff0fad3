"""TCP as programs see it: a stream of bytes each way, with buffers, windows, retransmission, FIN and RST.

Rules kept here: bytes arrive in order or not at all; a lost segment delays those behind it (retransmission after
0.2 s, doubling up to 60 s); a reader that does not read stops the writer; a black hole is noticed only by
timeouts; a host that lost its power forgets its connections and answers with RST when it is back.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from peewit_simulation.kernel.network import Network

if TYPE_CHECKING:
    from peewit_simulation.kernel.host import Host

SEND_BYTES: Final = 256 * 1024
RECEIVE_BYTES: Final = 256 * 1024
SEGMENT_BYTES: Final = 64 * 1024
RTO_S: Final = 0.2
RTO_MAX_S: Final = 60.0
GIVE_UP_S: Final = 924.0
SYN_RTO_S: Final = 1.0
SYN_TRIES: Final = 7
Address = tuple[str, int]


class Listener:
    """A port on which connections are accepted."""

    def __init__(self, host: Host, address: Address, backlog: int) -> None:
        self.host = host
        self.address = address
        self.backlog = backlog
        self.waiting: deque[End] = deque()
        self.fd = 0

    @property
    def readable(self) -> bool:
        return bool(self.waiting)


class End:
    """One end of a connection."""

    def __init__(self, network: Network, host: Host, local: Address, remote: Address) -> None:
        self.network = network
        self.host = host
        self.life = host.life
        self.local = local
        self.remote = remote
        self.peer: End | None = None
        self.fd = 0
        self.connecting = False
        self.open = False
        self.error = 0
        "An errno that the next call raises."
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._coming_bytes = 0
        self._eof = False
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._fin = False
        self._sending = False
        self._starved = False
        self._closed = False
        self.orphaned = False
        "Its process was killed; the operating system still sends what is buffered."
        self._rto_s = RTO_S
        self._stuck_since_s: float | None = None
        self._last_arrival_s = self._free_s = 0.0
        self._syns = 0

    # What a socket asks

    @property
    def readable(self) -> bool:
        return bool(self._inbox) or self._eof or bool(self.error)

    @property
    def writable(self) -> bool:
        return bool(self.error) or (self.open and self._outbox_bytes < SEND_BYTES)

    def take(self, size: int) -> bytes | None:
        """Up to `size` bytes; empty at the end; None if there are none yet. Raises `OSError`."""
        self._raise()
        if not self._inbox:
            return b"" if self._eof else None
        data = self._inbox.popleft()
        if len(data) > size:
            self._inbox.appendleft(data[size:])
            data = data[:size]
        self._inbox_bytes -= len(data)
        if self.peer is not None and self.peer._starved:
            peer = self.peer
            peer._starved = False
            self.network.world.after(self._delay_s(), peer._pump)
        return data

    def give(self, data: bytes) -> int | None:
        """Send: how many bytes were taken, None if the buffer is full. Raises `OSError`."""
        self._raise()
        if self._fin or not self.open:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        room = SEND_BYTES - self._outbox_bytes
        if room <= 0:
            return None
        data = bytes(data[:room])
        for at in range(0, len(data), SEGMENT_BYTES):
            self._outbox.append(data[at : at + SEGMENT_BYTES])
        self._outbox_bytes += len(data)
        self._pump()
        return len(data)

    def finish(self) -> None:
        """Nothing more is sent (FIN after what is buffered)."""
        if not self._fin:
            self._fin = True
            self._pump()

    def close(self) -> None:
        """The process lets go of it. Unread data is answered with RST."""
        if self._closed:
            return
        self._closed = True
        if self._inbox and self.open:
            self._reset_peer()
            self.open = False
        elif self.open:
            self.finish()

    def vanish(self) -> None:
        """The host lost its power: nothing is sent any more."""
        self.open = self.connecting = False
        self._closed = True
        self._outbox.clear()

    def _raise(self) -> None:
        if self.error:
            number, self.error = self.error, 0
            self.open, self._eof = False, True
            raise OSError(number, errno.errorcode[number])

    # Connecting

    def connect(self) -> None:
        """Begin to connect; it becomes writable when that is decided."""
        self.connecting = True
        self._syn()

    def _syn(self) -> None:
        network, here, there = self.network, self.host, self.network.hosts.get(self.remote[0])
        if not self.connecting or self._closed or self.life != here.life:
            return
        if self._syns >= SYN_TRIES:
            self._decide(errno.ETIMEDOUT)
            return
        name = there.name if there else "nowhere"
        if network.holds(here.name, name, self._syn):
            return
        self._syns += 1
        reached = there is not None and there.powered
        if reached and network.passes(here.name, name) and network.passes(name, here.name):
            network.world.note("syn", here.name, name, self.remote[1])
            network.world.after(self._delay_s(), self._arrive)
        else:
            network.world.after(SYN_RTO_S * 2 ** (self._syns - 1), self._syn)

    def _arrive(self) -> None:
        there = self.network.hosts[self.remote[0]]
        back_s = self._delay_s(back=True)
        if not there.powered:
            self.network.world.after(SYN_RTO_S, self._syn)
            return
        listener = there.listeners.get(self.remote[1])
        if listener is None or len(listener.waiting) >= listener.backlog:
            self.network.world.after(back_s, lambda: self._decide(errno.ECONNREFUSED))
            return
        if self._closed or not self.connecting:
            return
        accepted = End(self.network, there, self.remote, self.local)
        accepted.peer, accepted.open = self, True
        self.peer = accepted
        there.ends[id(accepted)] = accepted
        listener.waiting.append(accepted)
        there.ready(listener.fd)
        self.network.world.after(back_s, lambda: self._decide(0))

    def _decide(self, error: int) -> None:
        if not self.connecting or self.life != self.host.life:
            return
        self.connecting = False
        if error:
            self.error = error
        else:
            self.open = True
            if self._closed:
                self.finish()
        self.host.ready(self.fd)

    # Sending

    def _delay_s(self, *, back: bool = False) -> float:
        other = self.network.hosts.get(self.remote[0])
        names = self.host.name, other.name if other else "nowhere"
        conditions = self.network.conditions(*(reversed(names) if back else names))
        return conditions.delay_s(self.network.random)

    def _pump(self) -> None:
        if not self._sending and not self._starved and (self._outbox or (self._fin and not self.connecting)):
            self._sending = True
            if self._free_s > self.network.world.now_s:
                self.network.world.at(self._free_s, self._try)
            else:
                self._try()

    def _try(self) -> None:
        network, world, peer = self.network, self.network.world, self.peer
        alive = self.life == self.host.life or self.orphaned
        if peer is None or not alive or self.error or not (self._outbox or self._fin):
            self._sending = False
            return
        source, target = self.host.name, peer.host.name
        data = self._outbox[0] if self._outbox else b""
        if data and peer._inbox_bytes + peer._coming_bytes + len(data) > RECEIVE_BYTES:
            # Taking data wakes the sender; if that gets lost with its host, a probe finds out.
            self._sending, self._starved = False, True
            world.after(self._rto_s, self._probe)
            return
        if network.holds(source, target, self._try):
            return
        if not peer.host.powered or not network.passes(source, target):
            self._stuck_since_s = world.now_s if self._stuck_since_s is None else self._stuck_since_s
            if world.now_s - self._stuck_since_s > GIVE_UP_S:
                self._fail(errno.ETIMEDOUT)
                return
            world.after(self._rto_s, self._try)
            self._rto_s = min(RTO_MAX_S, 2 * self._rto_s)
            return
        self._rto_s, self._stuck_since_s = RTO_S, None
        conditions = network.conditions(source, target)
        sent_s = world.now_s + len(data) / conditions.bandwidth_bytes_s
        arrival_s = max(self._last_arrival_s, sent_s + conditions.delay_s(network.random))
        self._last_arrival_s = arrival_s
        if data:
            self._outbox.popleft()
            self._outbox_bytes -= len(data)
            peer._coming_bytes += len(data)
            network.bytes_sent[source] = network.bytes_sent.get(source, 0) + len(data)
            if not self._closed:
                self.host.ready(self.fd)
            world.at(arrival_s, lambda: peer._receive(data))
            self._free_s = sent_s
            if self._outbox or self._fin:
                world.at(sent_s, self._try)
            else:
                self._sending = False
        else:
            self._sending = False
            world.at(arrival_s, peer._receive_fin)

    def _probe(self) -> None:
        if self._starved:
            self._starved = False
            if self.peer is not None and self.peer.life != self.peer.host.life:
                self.peer._reset_peer()
            self._rto_s = min(RTO_MAX_S, 2 * self._rto_s)
            self._pump()

    # Receiving

    def _alive(self) -> bool:
        if not self.host.powered:
            return False  # nobody is there, and nobody answers
        if self._closed or self.life != self.host.life:
            self._reset_peer()
            return False
        return True

    def _receive(self, data: bytes) -> None:
        self._coming_bytes -= len(data)
        peer = self.peer
        assert peer is not None
        self.network.world.note("data", peer.host.name, self.host.name, len(data), data=data)
        if self._alive():
            self._inbox.append(data)
            self._inbox_bytes += len(data)
            self.host.ready(self.fd)

    def _receive_fin(self) -> None:
        if not self._closed and self.host.powered and self.life == self.host.life:
            self._eof = True
            self.host.ready(self.fd)

    def _reset_peer(self) -> None:
        peer = self.peer
        if peer is not None and not self.network.is_cut(self.host.name, peer.host.name):
            self.network.world.after(self._delay_s(), lambda: peer._fail(errno.ECONNRESET))

    def _fail(self, number: int) -> None:
        if self.life == self.host.life and not self._closed:
            self.error = number
            self._inbox.clear()
            self._inbox_bytes = 0
            self.host.ready(self.fd)
        self._sending = False
        self._outbox.clear()
