"""The push-pull exchange between two nodes (design 4.3, Feed): one request, one answer.

    ask     [cursor epoch, cursor number, root of my marks, my name (4 bytes) or empty, items, wanted marks]
    answer  [epoch, number, same, items, marks]

The cursor is where the asker stands in the answerer's feed; the items of the ask are the asker's news for
the answerer, those of the answer the answerer's news since the cursor. `number` is where the asker stands
afterwards. `same` says that both have the same (`marks`), so that nothing needs to be sent. Where news would be larger
than all marks (at a first meeting, or after a long silence), marks are sent instead: then the asker brings what the
answerer lacks, and asks for what it wants by mark, which the next answers give, while its cursor stays. An item is

    [1, checkpoint note]                                            a log's newest head
    [1, checkpoint note, [device statements], older note or empty]  with the log's device, if the asker may not
                                                                    know it; with the newest head that has a
                                                                    quorum, while the newest of all has none
    [2, view]

Rules kept here: syntax and bounds. An idle exchange:
ask 86 48 8f3c…11 1902a4 50 07d2…9c 40 80 40 (34 bytes), answer 85 48 8f3c…11 1902a4 f5 80 40 (15 bytes).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import MalformedError
from peewit_federation.gossip.marks import MARK_BYTES, Marks, split_marks

EXCHANGE_BYTES_MAX: Final = 1 << 20
ITEMS_BYTES_AIM: Final = 256 * 1024
ITEMS_MAX: Final = 1000
WANTS_MAX: Final = 32
"As many of the largest items fit into an answer."
NOTE_BYTES_MAX: Final = 4096
"A checkpoint with 16 cosignatures has less, and so has a device statement."
DEVICES_MAX: Final = 4
HEAD: Final = 1
VIEW: Final = 2


@dataclass(frozen=True)
class HeadItem:
    """A log's newest head, with what the other side may need to make use of it."""

    note: bytes
    devices: tuple[bytes, ...] = ()
    quorum: bytes = b""

    def value(self) -> list[object]:
        if not self.devices and not self.quorum:
            return [HEAD, self.note]
        return [HEAD, self.note, list(self.devices), self.quorum]

    @property
    def size_bytes(self) -> int:
        return len(self.note) + len(self.quorum) + sum(map(len, self.devices))


@dataclass(frozen=True)
class ViewItem:
    """A node's newest view."""

    view: bytes

    def value(self) -> list[object]:
        return [VIEW, self.view]

    @property
    def size_bytes(self) -> int:
        return len(self.view)


Item = HeadItem | ViewItem


def _item(value: object) -> Item:
    match value:
        case [1, bytes(note)] if len(note) <= NOTE_BYTES_MAX:
            return HeadItem(note)
        case [1, bytes(note), list(devices), bytes(quorum)] if len(devices) <= DEVICES_MAX:
            if all(isinstance(device, bytes) and len(device) <= NOTE_BYTES_MAX for device in devices):
                if len(note) <= NOTE_BYTES_MAX and len(quorum) <= NOTE_BYTES_MAX:
                    return HeadItem(note, tuple(devices), quorum)
        case [2, bytes(view)] if len(view) <= NOTE_BYTES_MAX:
            return ViewItem(view)
    raise MalformedError("not an item of a feed")


def _items(values: list[object]) -> tuple[Item, ...]:
    if len(values) > ITEMS_MAX:
        raise MalformedError(f"more than {ITEMS_MAX} items in an exchange")
    return tuple(map(_item, values))


@dataclass(frozen=True)
class Cursor:
    """A place in a node's feed; an empty epoch stands before its beginning."""

    epoch: bytes = b""
    number: int = 0


@dataclass(frozen=True)
class Ask:
    """What the node that begins an exchange sends."""

    cursor: Cursor = Cursor()
    root: bytes = b""
    name: bytes = b""
    items: tuple[Item, ...] = ()
    wants: tuple[bytes, ...] = ()
    "Marks of what the answer shall bring instead of news."

    def encode(self) -> bytes:
        cursor, items = self.cursor, [item.value() for item in self.items]
        return cbor.encode([cursor.epoch, cursor.number, self.root, self.name, items, b"".join(self.wants)])

    @classmethod
    def decode(cls, data: bytes) -> Ask:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=EXCHANGE_BYTES_MAX):
            case [bytes(epoch), int(number), bytes(root), bytes(name), list(items), bytes(wants)] if (
                len(epoch) in (0, 8) and number >= 0 and len(root) in (0, MARK_BYTES) and len(name) in (0, 4)
            ):
                return cls(Cursor(epoch, number), root, name, _items(items), tuple(split_marks(wants, WANTS_MAX)))
        raise MalformedError("not the ask of an exchange")


@dataclass(frozen=True)
class Answer:
    """What the other node answers."""

    cursor: Cursor
    same: bool = False
    items: tuple[Item, ...] = ()
    marks: bytes = b""
    "All that the answerer has, instead of items that would be larger."

    def encode(self) -> bytes:
        cursor, items = self.cursor, [item.value() for item in self.items]
        return cbor.encode([cursor.epoch, cursor.number, self.same, items, self.marks])

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=EXCHANGE_BYTES_MAX):
            case [bytes(epoch), int(number), bool(same), list(items), bytes(marks)] if (
                len(epoch) == 8 and number >= 0 and split_marks(marks) is not None
            ):
                return cls(Cursor(epoch, number), same, _items(items), marks)
        raise MalformedError("not the answer of an exchange")


class Feed:
    """A node's news in order: every subject stands once, at its latest number.

    The epoch is random at every start, so that numbers of two lives of a node never mix.
    """

    def __init__(self, epoch: bytes) -> None:
        self.epoch = epoch
        self.number = 0
        self._latest: OrderedDict[Hashable, int] = OrderedDict()
        self._first: dict[Hashable, int] = {}
        self.marks = Marks()

    @property
    def end(self) -> Cursor:
        """Behind the newest item."""
        return Cursor(self.epoch, self.number)

    def add(self, subject: Hashable, *state: bytes) -> None:
        """A subject may have news: its state now, in parts. If that is as it was, there are none."""
        if not self.marks.put(subject, *state):
            return
        self.number += 1
        self._first.setdefault(subject, self.number)
        self._latest[subject] = self.number
        self._latest.move_to_end(subject)

    def since(self, cursor: Cursor, item: Callable[[Hashable, bool], Item | None]) -> tuple[tuple[Item, ...], Cursor]:
        """News after `cursor`, within the bounds of one exchange, and where the reader stands then.

        `item(subject, new)` makes an item; `new` says that the reader may never have heard of it.
        """
        number = cursor.number if cursor.epoch == self.epoch else 0
        fresh = []
        for subject, at in reversed(self._latest.items()):
            if at <= number:
                break
            fresh.append((at, subject))
        items: list[Item] = []
        size = 0
        for at, subject in reversed(fresh):
            made = item(subject, self._first[subject] > number)
            if made is not None:
                items.append(made)
                size += made.size_bytes
            number = at
            if size > ITEMS_BYTES_AIM or len(items) >= ITEMS_MAX:
                break
        else:
            number = self.number
        return tuple(items), Cursor(self.epoch, number)
