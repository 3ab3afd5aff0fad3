"""The statements by which a queue changes, each guarded so that whoever comes second changes nothing.

state       waiting, withdrawn, claimed, or parked after offers that were not answered
free_at     from when a practice may draw it; `leased` says that one has drawn it and not offered yet
opened      how often its own key opened it again after a claim
proof       what its practice said last: an offer, that it is over, or its claim (`spoken`); `said_at` says when
change      grows with every change that other nodes are told; a lease is none, practices draw from all nodes;
            what was deleted leaves its number behind (`queue_floor`), so that numbers only grow (`next_change`)
"""

from __future__ import annotations

from typing import Final

FLOOR: Final = (
    "UPDATE queue_floor SET change = max(change, (SELECT coalesce(max(change), 0) FROM requests)) WHERE id = 0"
)
PUT: Final = (
    "INSERT INTO requests (area, request, rank, round, priority, version, body, state, offers, free_at, holder, "
    "misses, change, opened, leased) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, x'', 0, "
    "(SELECT number FROM next_change), ?, 0) ON CONFLICT (area, request) "
    "DO UPDATE SET rank = excluded.rank, version = excluded.version, body = excluded.body, state = excluded.state, "
    "misses = CASE WHEN requests.state = 3 OR excluded.opened > requests.opened THEN 0 ELSE requests.misses END, "
    "free_at = CASE WHEN excluded.opened > requests.opened THEN 0 ELSE requests.free_at END, "
    "proof = CASE WHEN excluded.opened > requests.opened THEN x'' ELSE requests.proof END, "
    "holder = CASE WHEN excluded.opened > requests.opened THEN x'' ELSE requests.holder END, "
    "opened = max(excluded.opened, requests.opened), change = excluded.change "
    "WHERE excluded.version > requests.version AND (excluded.opened > requests.opened "
    "OR (excluded.opened = requests.opened AND requests.state <> 2))"
)
DRAW: Final = (
    "SELECT request, free_at > ? FROM requests WHERE area = ? AND state = 0 "
    "AND (free_at <= ? OR (+leased = 1 AND holder = ?)) ORDER BY rank, round, priority LIMIT ?"
)
AREAS: Final = (
    "WITH RECURSIVE found(area) AS (SELECT min(area) FROM requests UNION ALL "
    "SELECT (SELECT min(area) FROM requests WHERE area > found.area) FROM found WHERE found.area IS NOT NULL) "
    "SELECT (SELECT body FROM requests WHERE area = found.area LIMIT 1) FROM found WHERE found.area IS NOT NULL"
)
LEASED: Final = (
    "SELECT count(*) FROM requests WHERE area = ? AND holder = ? AND leased = 1 AND +state = 0 AND free_at > ?"
)
LEASE: Final = (
    "UPDATE requests SET free_at = ?, holder = ?, leased = 1 WHERE area = ? AND request = ? AND state = 0 "
    "AND free_at <= ?"
)
LET_GO: Final = (
    "UPDATE requests SET free_at = 0, holder = x'', leased = 0 WHERE area = ? AND request = ? AND state = 0 "
    "AND leased = 1 AND holder = ? AND free_at > ?"
)
BODY: Final = "SELECT body FROM requests WHERE area = ? AND request = ?"
TAKE_OVER: Final = (
    "UPDATE requests SET misses = misses + CASE WHEN free_at <= ? OR leased = 1 THEN 1 ELSE 0 END, "
    "state = CASE WHEN misses + CASE WHEN free_at <= ? OR leased = 1 THEN 1 ELSE 0 END >= ? THEN 3 ELSE 0 END, "
    "free_at = ?, holder = ?, leased = 0, proof = ?, said_at = ?, change = (SELECT number FROM next_change) "
    "WHERE area = ? AND request = ? AND state IN (0, 3) AND free_at < ? AND said_at < ?"
)
OFFERED: Final = (
    "UPDATE requests SET free_at = ?, leased = 0, offers = offers + 1, misses = misses + 1, "
    "state = CASE WHEN misses >= ? THEN 3 ELSE 0 END, proof = ?, said_at = ?, "
    "change = (SELECT number FROM next_change) "
    "WHERE area = ? AND request = ? AND state = 0 AND holder = ? AND free_at > ? AND leased = 1"
)
STANDS: Final = "SELECT 1 FROM requests WHERE area = ? AND request = ? AND holder = ? AND free_at = ? AND leased = 0"
RELEASE: Final = (
    "UPDATE requests SET free_at = ?, misses = max(misses - 1, 0), state = 0, proof = ?, said_at = ?, "
    "change = (SELECT number FROM next_change) "
    "WHERE area = ? AND request = ? AND state IN (0, 3) AND holder = ? AND leased = 0 AND free_at > ? AND said_at < ?"
)
CLAIM: Final = (
    "UPDATE requests SET state = 2, proof = ?, holder = ?, change = (SELECT number FROM next_change) "
    "WHERE area = ? AND request = ? AND opened = ? AND state IN (0, 1, 3)"
)
