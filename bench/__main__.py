"""`make bench`: everything, as the table of docs/benchmarks.md."""

from __future__ import annotations

import logging
import sys

import structlog

from bench import appointments, bookings, fold, gossip, http, mirror, passports, simulation

PARTS = {
    "gossip": gossip.run,
    "http": http.run,
    "mirror": mirror.run,
    "fold": fold.run,
    "appointments": appointments.run,
    "bookings": bookings.run,
    "passports": passports.run,
    "simulation": simulation.run,
}


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print("| what | measured | wanted |\n|---|---|---|")
    for name in sys.argv[1:] or PARTS:
        for row in PARTS[name]():
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
