"""How many requests a node answered and how long it took, counted at next to no cost and told when asked.

Rules kept here: by route and status, never by who asked or for what.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class RequestTimes(Collector):
    """`peewit_requests` and `peewit_request_seconds`."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._sums_s: dict[str, float] = {}

    def add(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        key = route, status
        self._counts[key] = self._counts.get(key, 0) + 1
        if route not in self._buckets:
            self._buckets[route], self._sums_s[route] = [0] * (len(BOUNDS_S) + 1), 0.0
        self._buckets[route][bisect_left(BOUNDS_S, seconds)] += 1
        self._sums_s[route] += seconds

    def collect(self) -> Iterable[Metric]:
        """As Prometheus has them."""
        requests = CounterMetricFamily("peewit_requests", "Requests by route and status", labels=["route", "status"])
        for (route, status), count in self._counts.items():
            requests.add_metric([route, str(status)], count)
        seconds = HistogramMetricFamily("peewit_request_seconds", "Time to answer", labels=["route"])
        for route, counts in self._buckets.items():
            bounds = [*map(str, BOUNDS_S), "+Inf"]
            seconds.add_metric([route], list(zip(bounds, accumulate(counts), strict=True)), self._sums_s[route])
        return requests, seconds
