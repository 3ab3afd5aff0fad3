"""This node's views and those of the others, each with the list behind it (design 4.3, Fresh).

Rules kept here: at most one view of our own in an interval; a view of another node is relayed only with
the list that its root covers, fetched from whoever relayed it, mostly as a difference from our own list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peewit_federation.charter import Charter
from peewit_federation.errors import SenderError, UnknownError
from peewit_federation.gossip.feed import Feed
from peewit_federation.gossip.views import OPERATORS, Line, View, ViewList, is_newer, open_view, sign_view
from peewit_federation.keys import SigningKey
from peewit_federation.registry.fold import Registry
from peewit_node.logs import Logs
from peewit_node.peers import Peer, PeerError, Peers
from peewit_node.stored_log import Log

LIST_BYTES_MAX: Final = 4 << 20
SKEW_S: Final = 120


@dataclass(frozen=True)
class Held:
    """A view as it is relayed: the signed bytes, what they say, and the lines."""

    data: bytes
    view: View
    lines: ViewList


class Views:
    """The newest complete view of every witness."""

    def __init__(
        self,
        charter: Callable[[], Charter],
        logs: Logs,
        registry: Registry,
        feed: Feed,
        key: SigningKey,
        name: str,
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._charter = charter
        self._logs = logs
        self._registry = registry
        self._feed = feed
        self._key = key
        self._name = name
        self._interval_s = interval_s
        self._lines: ViewList | None = None
        self._own: Held | None = None
        self.newest: dict[str, Held] = {}
        "By the policy's name of the witness; ours among them."

    def changed(self) -> None:
        """A log changed: the lines must be made anew."""
        self._lines = None

    def recount(self) -> None:
        """The policy changed: views of those who are witnesses no more go."""
        for name in [name for name in self.newest if name not in self._charter().policy.witnesses]:
            del self.newest[name]
            self._feed.marks.drop(("view", name))

    def lines(self) -> ViewList:
        """Our lines as of now."""
        if self._lines is None:
            self._lines = ViewList(line for log in self._logs.all() for line in self._lines_of(log))
        return self._lines

    def _lines_of(self, log: Log) -> list[Line]:
        if log.head is None:
            return []
        vouching = self._registry.vouched.mediators_of.get(log.origin, ())
        # Anybody can sign a device statement; only mediators that count have lines.
        owners = sorted(owner for owner in vouching if log.origin in self._registry.cuts.get(owner, {}))
        if log.origin in self._registry.operators:
            owners = [OPERATORS]
        if log.forked:
            return [Line(owner, log.origin) for owner in owners]
        return [Line(owner, log.origin, log.head.size, log.head.root) for owner in owners]

    @property
    def signed_s(self) -> int:
        """When our last view was signed; 0 if none was."""
        return self._own.view.time_s if self._own else 0

    def own(self, now_s: float) -> Held:
        """Our view: a new one if the last is older than the interval. Of a node without a vote, nobody is told."""
        held = self._own
        if held is not None and now_s - self._interval_s < held.view.time_s <= now_s:
            return held
        lines = self.lines()
        view = View(self._feed.epoch, self._feed.number, int(now_s), len(lines.lines), lines.root)
        self._own = held = Held(sign_view(view, self._key), view, lines)
        if self._charter().operator(self._name).votes:
            self.newest[self._name] = held
            self._feed.add(("view", self._name), b"view", held.data)
        return held

    def list_behind(self, root: bytes) -> ViewList | None:
        """A list that we can serve."""
        for held in self.newest.values():
            if held.lines.root == root:
                return held.lines
        return self.lines() if self.lines().root == root else None

    async def take(self, data: bytes, peer: Peer, peers: Peers) -> bool:
        """Take over a view that a peer relayed. True if it was news. Raises `SenderError` or `PeerError`."""
        if any(held.data == data for held in self.newest.values()):
            return False  # most views come from several sides
        name, view = open_view(data, self._charter().policy)
        if view.time_s > self._clock() + SKEW_S:
            raise UnknownError(f"a view of {name} that is dated in the future")
        held = self.newest.get(name)
        if name == self._name or (held is not None and not is_newer(view, held.view)):
            return False
        lines = self.list_behind(view.root) or await self._fetch(view, peer, peers)
        if len(lines.lines) != view.size:
            raise PeerError(f"{peer.name} relayed a view whose list has another length")
        held = self.newest.get(name)
        if held is not None and not is_newer(view, held.view):
            return False
        self.newest[name] = Held(data, view, lines)
        self._feed.add(("view", name), b"view", data)
        return True

    async def _fetch(self, view: View, peer: Peer, peers: Peers) -> ViewList:
        base = self.lines()
        path = f"/federation/v1/lists/{view.root.hex()}?base={base.root.hex()}"
        data = await peers.get(peer, path, LIST_BYTES_MAX)
        try:
            return ViewList.decode(data, view.root, base)
        except SenderError as error:
            whole = await peers.get(peer, f"/federation/v1/lists/{view.root.hex()}", LIST_BYTES_MAX)
            try:
                return ViewList.decode(whole, view.root)
            except SenderError:
                peer.caught(f"a view without its list: {error}")
                raise
