"""The statements by which a queue changes, each guarded so that whoever comes second changes nothing.

state       waiting, withdrawn, claimed, or parked after offers that were not answered
free_at     from when a practice may draw it; `leased` says that one has drawn it and not offered yet
opened      how often its own key opened it again after a claim
change      grows with every change, so that other nodes can be told what is new
"""

from __future__ import annotations

from typing import Final

PUT: Final = (
    "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'', 0, 0, x'', 0, "
    "(SELECT coalesce(max(change), 0) + 1 FROM requests), ?, 0) ON CONFLICT (area, request) "
    "DO UPDATE SET version = excluded.version, body = excluded.body, state = excluded.state, "
    "misses = CASE WHEN requests.state = 3 OR excluded.opened > requests.opened THEN 0 ELSE requests.misses END, "
    "free_at = CASE WHEN excluded.opened > requests.opened THEN 0 ELSE requests.free_at END, "
    "secret = CASE WHEN excluded.opened > requests.opened THEN x'' ELSE requests.secret END, "
    "holder = CASE WHEN excluded.opened > requests.opened THEN x'' ELSE requests.holder END, "
    "opened = max(excluded.opened, requests.opened), change = excluded.change "
    "WHERE excluded.version > requests.version AND (excluded.opened > requests.opened "
    "OR (excluded.opened = requests.opened AND requests.state <> 2))"
)
DRAW: Final = (
    "SELECT request, body, free_at > ? FROM requests WHERE area = ? AND state = 0 "
    "AND (free_at <= ? OR (+leased = 1 AND holder = ?)) ORDER BY rank, round, priority LIMIT ?"
)
LEASED: Final = (
    "SELECT count(*) FROM requests WHERE area = ? AND holder = ? AND leased = 1 AND +state = 0 AND free_at > ?"
)
LEASE: Final = (
    "UPDATE requests SET free_at = ?, holder = ?, leased = 1, change = (SELECT max(change) + 1 FROM requests) "
    "WHERE area = ? AND request = ? AND state = 0 AND free_at <= ?"
)
TAKE_OVER: Final = (
    "UPDATE requests SET free_at = max(free_at, ?), holder = CASE WHEN free_at < ? THEN ? ELSE holder END, "
    "leased = CASE WHEN free_at < ? THEN 0 ELSE leased END, "
    "misses = max(misses, ?), state = CASE WHEN max(misses, ?) >= ? THEN 3 ELSE 0 END, "
    "change = (SELECT max(change) + 1 FROM requests) "
    "WHERE area = ? AND request = ? AND version = ? AND state IN (0, 3) AND (free_at < ? OR misses < ?)"
)
OFFERED: Final = (
    "UPDATE requests SET free_at = ?, leased = 0, offers = offers + 1, misses = misses + 1, "
    "state = CASE WHEN misses >= ? THEN 3 ELSE 0 END, change = (SELECT max(change) + 1 FROM requests) "
    "WHERE area = ? AND request = ? AND state = 0 AND holder = ? AND free_at > ?"
)
RELEASE: Final = (
    "UPDATE requests SET free_at = ?, misses = max(misses - 1, 0), state = 0, "
    "change = (SELECT max(change) + 1 FROM requests) "
    "WHERE area = ? AND request = ? AND state IN (0, 3) AND holder = ? AND leased = 0 AND free_at > ?"
)
CLAIM: Final = (
    "UPDATE requests SET state = 2, secret = ?, holder = ?, change = (SELECT max(change) + 1 FROM requests) "
    "WHERE area = ? AND request = ? AND opened = ? AND state IN (0, 1, 3)"
)
