"""What a node tells about itself: to people (`/`), to programs (`/status.json`, `/metrics`), to supervisors.

`/healthz` says that the process answers; `/readyz` that the database can be written, that everything held
is folded, and that a view was signed lately. Names of operators and of logs are public; nothing about
clients is counted one by one.
"""

from __future__ import annotations

import html
import time
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from peewit_node.charters import Charters
from peewit_node.engine import Engine, StorageError, Write
from peewit_node.keeper import Keeper
from peewit_node.logs import Logs
from peewit_node.node_state import NodeState
from peewit_node.peers import Peer, Peers
from peewit_node.problems import Handler
from peewit_node.request_times import RequestTimes
from peewit_node.stored_log import Log
from peewit_node.views import Views

EXPIRY_WARNING_S: Final = 60 * 86_400
LISTED_MAX: Final = 50
COUNT_INTERVAL_S: Final = 60.0
TOUCH_INTERVAL_S: Final = 1.0
VERSION: Final = version("peewit")
TOUCH: Final = "INSERT INTO facts VALUES ('touched', ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"


class Status:
    """Collects what there is to tell."""

    def __init__(
        self,
        state: NodeState,
        engine: Engine,
        logs: Logs,
        keeper: Keeper,
        peers: Peers,
        charters: Charters,
        views: Views,
    ) -> None:
        self._state = state
        self._engine = engine
        self._logs = logs
        self._keeper = keeper
        self._peers = peers
        self._charters = charters
        self._views = views
        self._touched_s = -TOUCH_INTERVAL_S
        self._begun_s = state.now()
        self.registry = CollectorRegistry()
        self._counted = (-COUNT_INTERVAL_S, 0)
        self._times = RequestTimes()
        self.registry.register(self._times)
        self._gauges = {
            name: Gauge(f"peewit_{name}", text, registry=self.registry)
            for name, text in [
                ("logs", "Logs that are held"),
                ("entries", "Entries that are held"),
                ("logs_without_quorum", "Logs whose newest head has no quorum yet"),
                ("forks", "Logs with fork evidence"),
                ("mediators", "Mediators that count"),
                ("peers_failing", "Peers whose last exchange failed"),
                ("charter_number", "Of the charter in force"),
                ("charter_refused", "Whether a charter lies there that is refused"),
                ("checkers_lacking", "Processes that should check what arrives and do not run"),
            ]
        }
        self._lag = Gauge(
            "peewit_peer_silence_seconds",
            "Since the last good exchange; since the start if there was none",
            ["peer"],
            registry=self.registry,
        )

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/status.json", self.json),
            web.get("/", self.page),
        ]

    @web.middleware
    async def measure(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count requests and the time they take, by route."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        if route.startswith("/log/"):
            return await handler(request)
        start = time.perf_counter()
        response = await handler(request)
        self._times.add(route, response.status, time.perf_counter() - start)
        return response

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        reasons = []
        if not 0 <= self._state.now() - self._touched_s < TOUCH_INTERVAL_S:
            try:
                await self._engine.write(Write(TOUCH, (str(int(self._state.now())).encode(),)))
                self._touched_s = self._state.now()
            except StorageError as error:
                reasons.append(str(error))
        if not self._keeper.loaded.is_set():
            reasons.append("the registry is being folded")
        if lacking := self._state.machine.lacking:
            reasons.append(f"{lacking} processes that check what arrives do not run")
        signed_s = self._views.signed_s
        if signed_s and self._state.now() - signed_s > 3 * self._state.config.gossip.view_interval_s + 2:
            reasons.append("no view was signed lately")
        return web.Response(text="\n".join(reasons) + "\n" if reasons else "ready\n", status=503 if reasons else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        logs = self._logs.all()
        values = {
            "logs": len(logs),
            "entries": sum(log.size for log in logs),
            "logs_without_quorum": sum(_lacks_quorum(log) for log in logs),
            "forks": sum(log.forked for log in logs),
            "mediators": len(self._keeper.registry.folds),
            "peers_failing": sum(peer.failures > 0 for peer in self._peers.all.values()),
            "checkers_lacking": self._state.machine.lacking,
            "charter_number": self._state.charter.number,
            "charter_refused": bool(self._charters.refused),
        }
        for name, value in values.items():
            self._gauges[name].set(value)
        for peer in self._peers.all.values():
            self._lag.labels(peer.name).set(self._state.now() - (peer.last_success_s or self._begun_s))
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def json(self, _: web.Request) -> web.Response:
        return web.json_response(self.facts())

    def facts(self) -> dict[str, Any]:
        """Everything, as plain values."""
        registry, now_s = self._keeper.registry, self._state.now()
        logs = self._logs.all()
        return {
            "operator": self._state.operator.name,
            "federation": self._state.charter.name,
            "charter": self._state.charter.number,
            "refused_charter": self._charters.refused,
            "version": VERSION,
            "time_s": int(now_s),
            "digest": registry.digest().hex(),
            "folded": self._keeper.idle.is_set(),
            "logs": len(logs),
            "entries": sum(log.size for log in logs),
            "heads_without_quorum": sum(_lacks_quorum(log) for log in logs),
            "mediators": sum(bool(cuts) for cuts in registry.cuts.values()),
            "closes_to_settle": len(registry.unsettled()),
            "peers": [
                _peer_facts(peer, now_s) | {"view_age_s": self._view_age_s(peer.name)}
                for peer in self._peers.all.values()
            ],
            "forks": [log.origin.hex() for log in logs if log.forked],
            "views": {name: held.view.time_s for name, held in sorted(self._views.newest.items())},
            "expiring_grants": self._expiring(now_s),
        }

    def _view_age_s(self, name: str) -> int | None:
        held = self._views.newest.get(name)
        return max(0, int(self._state.now()) - held.view.time_s) if held else None

    def _expiring(self, now_s: float) -> int:
        """How many grants end soon; counted at most once in some time, for whoever asks."""
        if not 0 <= now_s - self._counted[0] < COUNT_INTERVAL_S:
            self._counted = now_s, self._count_expiring(now_s)
        return self._counted[1]

    def _count_expiring(self, now_s: float) -> int:
        return sum(
            now_s <= subject.standing.not_after < now_s + EXPIRY_WARNING_S
            for fold in self._keeper.registry.folds.values()
            for subject in fold.subjects.values()
            if subject.standing
        )

    async def page(self, _: web.Request) -> web.Response:
        """For people."""
        facts = self.facts()
        rows = "".join(
            f"<tr><td>{html.escape(str(peer['name']))}<td>{_age(peer['silence_s'])}<td>{_age(peer['view_age_s'])}"
            f"<td>{peer['failures']}"
            f"<td>{html.escape(str(peer['last_error'])) or 'none'}<td>{html.escape('; '.join(peer['lies'])) or 'none'}"
            for peer in facts["peers"]
        )
        logs = "".join(
            f"<tr><td><a href='/log/{log.origin.hex()}/checkpoint'>{log.origin.hex()[:16]}…</a><td>{log.size}"
            f"<td>{len(log.head.witnesses) if log.head else 0}<td>{log.quorum.size if log.quorum else 0}"
            f"<td>{self._keeper.registry.mirrors(log.origin) or ''}"
            f"<td>{'FORKED' if log.forked else ''}"
            for log in sorted(self._logs.all(), key=lambda log: (not log.forked, log.origin))[:LISTED_MAX]
        )
        keys = (
            "federation",
            "charter",
            "refused_charter",
            "version",
            "logs",
            "entries",
            "heads_without_quorum",
            "mediators",
            "expiring_grants",
        )
        numbers = "".join(
            f"<tr><th>{key.replace('_', ' ')}<td>{html.escape(str(facts[key]))}" for key in keys if facts[key] != ""
        )
        body = (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>Peewit node {facts['operator']}</title>"
            "<style>body{font:16px system-ui;margin:2em;max-width:60em}table{border-collapse:collapse;margin:1em 0}"
            "td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left}</style>"
            f"<h1>Node {html.escape(facts['operator'])}</h1><p>Registry digest <code>{facts['digest']}</code>"
            f"<table>{numbers}</table><h2>Peers</h2><table><tr><th>peer<th>last heard<th>its view<th>failures"
            f"<th>last error<th>caught lying{rows}</table><h2>Logs</h2><table><tr><th>log<th>entries<th>cosignatures"
            f"<th>entries with a quorum<th>quota<th>{logs}</table>"
        )
        return web.Response(text=body, content_type="text/html")


def _peer_facts(peer: Peer, now_s: float) -> dict[str, Any]:
    return {
        "name": peer.name,
        "silence_s": None if peer.last_success_s is None else max(0, int(now_s - peer.last_success_s)),
        "failures": peer.failures,
        "last_error": peer.last_error,
        "lies": peer.lies,
        "exchanges": peer.exchanges,
        "bytes_sent": peer.bytes_sent,
        "bytes_received": peer.bytes_received,
    }


def _lacks_quorum(log: Log) -> bool:
    """Whether a quorum is still to be expected: nobody cosigns a forked log."""
    return not log.forked and (log.quorum is None or log.quorum.size < log.size)


def _age(seconds: int | None) -> str:
    return "never" if seconds is None else f"{seconds} s ago"
