"""What an exchange costs on the wire."""

from __future__ import annotations

from tests.federation.test_gossip import a_head

from peewit_federation.gossip.feed import Answer, Ask, Feed, HeadItem


def run() -> list[tuple[str, str, str]]:
    feed = Feed(b"8bytes!!")
    for number in range(1_000_000):
        feed.add(number, number.to_bytes(4, "big"))
    idle = len(Ask(feed.end, feed.marks.root).encode() + Answer(feed.end, same=True).encode())
    before = feed.end
    feed.add("log", b"state")
    items, cursor = feed.since(before, lambda _subject, _new: HeadItem(a_head(3)))
    changed = len(Ask(before, feed.marks.root).encode() + Answer(cursor, False, items).encode())
    return [
        ("gossip payload, idle, both directions", f"{idle} bytes", "≤ 64"),
        ("gossip payload, one changed head with three cosignatures", f"{changed} bytes, one round trip", "≤ 1,000"),
    ]
