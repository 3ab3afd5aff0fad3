"""Views, feeds and freshness (design 4.3)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from peewit_federation.cose import sign1
from peewit_federation.errors import ForgeryError, MalformedError, UnknownError
from peewit_federation.gossip.feed import Answer, Ask, Cursor, Feed, HeadItem, Item, ViewItem
from peewit_federation.gossip.marks import mark_of
from peewit_federation.gossip.views import (
    OPERATORS,
    Line,
    Range,
    View,
    ViewList,
    fresh_as_of,
    lacks,
    open_view,
    sign_view,
)
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, cosign, log_key, sign_checkpoint, witness_key
from peewit_federation.log.policy import parse_policy
from tests.federation_kit import seed

WITNESSES = [SigningKey(seed("witness", n)) for n in range(4)]
POLICY = parse_policy(
    "".join(f"witness n{n} {witness_key(f'n{n}.example/w', key.public)}\n" for n, key in enumerate(WITNESSES))
    + "group nodes 3 n0 n1 n2 n3\nquorum nodes\n"
)


def lines(mediators: int, each: int) -> list[Line]:
    found = [Line(OPERATORS, seed("op", n), n, seed("root", n)) for n in range(4)]
    for number in range(mediators):
        for log in range(each):
            found.append(Line(seed("m", number), seed("log", number, log), log + 1, seed("r", number, log)))
    return found


def view_of(found: ViewList) -> View:
    return View(bytes(8), 5, 1000, len(found.lines), found.root)


def test_a_range_gives_all_lines_of_a_mediator_and_proves_that_none_is_missing() -> None:
    found = ViewList(lines(7, 3))
    view = view_of(found)
    for mediator in [OPERATORS, *(seed("m", n) for n in range(7)), seed("nobody"), bytes(32), b"\xff" * 32]:
        part = found.range(mediator)
        again = Range.of(part.value(), view.size)
        assert list(again.open(mediator, view)) == [line for line in found.lines if line.mediator == mediator]


def test_a_withheld_line_or_log_shows() -> None:
    found = ViewList(lines(5, 3))
    view = view_of(found)
    mediator = seed("m", 2)
    honest = found.range(mediator)
    for drop in range(len(honest.lines)):
        cut = honest.lines[:drop] + honest.lines[drop + 1 :]
        with pytest.raises(ForgeryError):
            Range(cut, honest.proof).open(mediator, view)
    from peewit_federation import cbor
    from peewit_federation.log.merkle import leaf_hash
    from peewit_federation.log.proofs import leaf_source, range_proof

    source = leaf_source([leaf_hash(cbor.encode(line.fields())) for line in found.lines])
    first = found.lines.index(next(line for line in found.lines if line.mediator == mediator))
    for start, end in ((first, first + 3), (first + 1, first + 4), (first, first + 4), (first - 1, first + 2)):
        proof = range_proof(start, end, len(found.lines), source)
        with pytest.raises(ForgeryError):
            Range(tuple(found.lines[start:end]), proof).open(mediator, view)


def test_a_list_travels_whole_or_as_a_difference_and_must_lead_to_its_root() -> None:
    old, new = ViewList(lines(5, 3)), ViewList(lines(5, 3)[:-2] + [Line(seed("m", 9), seed("fork"))])
    for base in (None, old):
        assert ViewList.decode(new.encode(base), new.root, base).lines == new.lines
    assert len(new.encode(old)) < len(new.encode()) / 3
    with pytest.raises(ForgeryError):
        ViewList.decode(old.encode(), new.root)
    with pytest.raises(MalformedError):
        ViewList.decode(new.encode(old), new.root, None)


def test_views_are_signed_by_witnesses_of_the_policy_for_this_purpose_only() -> None:
    found = ViewList(lines(1, 1))
    view = view_of(found)
    assert open_view(sign_view(view, WITNESSES[2]), POLICY) == ("n2", view)
    with pytest.raises(UnknownError):
        open_view(sign_view(view, SigningKey(seed("stranger"))), POLICY)
    with pytest.raises(ForgeryError):
        open_view(sign1(view.encode(), "peewit close v1", WITNESSES[2]).encode(), POLICY)
    with pytest.raises((ForgeryError, MalformedError)):
        forged = sign_view(view, WITNESSES[2])
        open_view(forged[:-1] + bytes([forged[-1] ^ 1]), POLICY)


def test_freshness_is_that_of_the_oldest_view_in_the_newest_quorum() -> None:
    assert fresh_as_of({"n0": 100, "n1": 90, "n2": 80, "n3": 10}, POLICY) == 80
    assert fresh_as_of({"n0": 100, "n1": 90}, POLICY) is None
    assert fresh_as_of({"n0": 100, "n1": 90, "gone": 95}, POLICY) is None
    assert fresh_as_of({}, POLICY) is None


def test_a_holder_lacks_longer_forked_and_different_logs_and_not_shorter_ones() -> None:
    line = Line(b"", seed("log"), 5, seed("root"))
    held = {line.origin: (5, line.root)}
    assert lacks([line], held, []) == []
    assert lacks([replace(line, size=4)], held, []) == []
    assert lacks([replace(line, size=6)], held, []) != []
    assert lacks([replace(line, root=seed("other"))], held, []) != []
    assert lacks([Line(b"", line.origin)], held, []) != []
    assert lacks([Line(b"", line.origin)], held, [line.origin]) == []
    assert lacks([line], {}, []) == [line]


def a_head(cosigners: int) -> bytes:
    key = SigningKey(seed("log"))
    head = sign_checkpoint(Checkpoint(log_key(key.public).name, 1_000_000, bytes(32)), key)
    for n, witness in enumerate(WITNESSES[:cosigners]):
        name = f"n{n}.example/w"
        head = head.with_cosignature(name, cosign(head.checkpoint, name, witness, 1_700_000_000))
    return head.encode()


def test_an_idle_exchange_takes_at_most_64_bytes_and_one_changed_head_at_most_1000_in_one_round_trip() -> None:
    feed = Feed(b"8bytes!!")
    for number in range(1_000_000 // 1000):
        feed.add(number, b"state", number.to_bytes(4, "big"))
    idle = Ask(feed.end, feed.marks.root).encode() + Answer(feed.end, same=True).encode()
    assert len(idle) <= 64
    before = feed.end
    feed.add("log", b"state")
    items, cursor = feed.since(before, lambda _subject, _new: HeadItem(a_head(3)))
    changed = Ask(before, feed.marks.root).encode() + Answer(cursor, False, items).encode()
    assert len(items) == 1
    assert cursor == feed.end
    assert len(changed) <= 1000


def test_a_reader_that_comes_and_goes_misses_nothing() -> None:
    random = Random(1)
    feed = Feed(b"epoch--1")
    latest: dict[str, int] = {}
    seen: dict[str, int] = {}
    cursor = Cursor()

    def item(subject: object, _new: bool) -> Item:
        return HeadItem(f"{subject}={latest[str(subject)]}".encode() + bytes(random.randint(0, 900)))

    for step in range(3000):
        name = f"log-{random.randrange(50)}"
        latest[name] = step
        feed.add(name, name.encode(), step.to_bytes(4, "big"))
        if random.random() < 0.1:
            items, cursor = feed.since(cursor, item)
            for found in items:
                assert isinstance(found, HeadItem)
                subject, _, number = found.note.rstrip(b"\0").partition(b"=")
                seen[subject.decode()] = int(number)
    while cursor != feed.end:
        items, cursor = feed.since(cursor, item)
        for found in items:
            assert isinstance(found, HeadItem)
            subject, _, number = found.note.rstrip(b"\0").partition(b"=")
            seen[subject.decode()] = int(number)
    assert seen == latest


def test_a_cursor_of_another_epoch_starts_from_the_beginning() -> None:
    feed = Feed(b"epoch--2")
    feed.add("a", b"a")
    feed.add("b", b"b")
    items, _ = feed.since(Cursor(b"epoch--1", 2), lambda subject, _: ViewItem(str(subject).encode()))
    assert [found.view for found in items if isinstance(found, ViewItem)] == [b"a", b"b"]


@pytest.mark.parametrize(
    "ask",
    [
        Ask(),
        Ask(Cursor(bytes(8), 7), bytes(16), bytes(4), (HeadItem(b"n", (b"d",), b"q"), ViewItem(b"v")), (bytes(16),)),
    ],
)
def test_asks_and_answers_come_back(ask: Ask) -> None:
    assert Ask.decode(ask.encode()) == ask
    answer = Answer(Cursor(bytes(8), 9), True, ask.items, bytes(32))
    assert Answer.decode(answer.encode()) == answer


def test_two_that_compare_marks_know_what_each_lacks() -> None:
    here, there = Feed(b"epoch--1"), Feed(b"epoch--2")
    for number in range(500):
        for feed in (here, there):
            feed.add(number, b"state", number.to_bytes(2, "big"))
    assert here.marks.root == there.marks.root
    there.add(7, b"state", b"changed")
    there.add("new", b"state", b"new")
    here.add("mine", b"state", b"mine")
    assert here.marks.root != there.marks.root
    surplus, wanted = here.marks.compare(there.marks.joined)
    assert set(surplus) == {7, "mine"}
    assert set(there.marks.find(wanted)) == {7, "new"}
    there.add("new", b"state", b"newer")
    assert there.marks.find(wanted) == [7]
    assert len(there.marks.joined) == 16 * 501


def test_parts_of_a_state_cannot_be_moved_between_each_other() -> None:
    assert mark_of(b"ab", b"c") != mark_of(b"a", b"bc") != mark_of(b"abc")


@pytest.mark.parametrize("marks", [bytes(15), bytes(17), bytes(16 * 20_001)])
def test_marks_that_are_no_marks_are_refused(marks: bytes) -> None:
    with pytest.raises(MalformedError):
        Feed(b"epoch--1").marks.compare(marks)
    with pytest.raises(MalformedError):
        Answer.decode(Answer(Cursor(bytes(8), 1), False, (), marks).encode())
