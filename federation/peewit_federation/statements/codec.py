"""How a statement's fields become bytes: one declaration per field, one encoding per statement.

A statement is a deterministic CBOR map. Label 0 is its kind, label 1 the version of its format, and
the rest are its fields, each declared once on a frozen dataclass:

    @dataclass(frozen=True)
    class Withdrawal(Statement):
        KIND = 3
        mediator: bytes = labelled(2, Bytes(32))

    Withdrawal(bytes(32)).encode()   ->   a3 00 03 01 01 02 58 20 00…

Rules kept here: every field has a type with bounds; a missing field has its declared default and is
then not written; unknown labels are kept out of the value, so that later versions may add optional
fields. What statements mean is left to `registry`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from peewit_federation import cbor
from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.log.tiles import ENTRY_BYTES_MAX

FORMAT_VERSION: Final = 1
UINT_MAX: Final = (1 << 63) - 1


@dataclass(frozen=True)
class Uint:
    """An integer from 0 to `maximum`."""

    maximum: int = UINT_MAX

    def check(self, value: object) -> Any:
        if type(value) is not int or not 0 <= value <= self.maximum:
            raise MalformedError(f"not an integer from 0 to {self.maximum}")
        return value


@dataclass(frozen=True)
class Bytes:
    """`least` to `most` bytes; exactly `least` if `most` is not given."""

    least: int
    most: int | None = None

    def check(self, value: object) -> Any:
        if type(value) is not bytes or not self.least <= len(value) <= (self.most or self.least):
            raise MalformedError(f"not {self.least} to {self.most or self.least} bytes")
        return value


@dataclass(frozen=True)
class Text:
    """A text that matches `pattern` whole. The name says what may stand there; no free text exists."""

    name: str
    pattern: str

    def check(self, value: object) -> Any:
        if type(value) is not str or not re.fullmatch(self.pattern, value, re.ASCII):
            raise MalformedError(f"not a {self.name}")
        return value


@dataclass(frozen=True)
class Many:
    """At most `most` items, without repetition; ascending unless `ordered`, where their order says something."""

    item: Type
    most: int
    ordered: bool = False

    def check(self, value: object) -> Any:
        if not isinstance(value, list | tuple) or len(value) > self.most:
            raise MalformedError(f"not a list of at most {self.most}")
        items = tuple(map(self.item.check, value))
        if len(set(items)) != len(items) or (not self.ordered and list(items) != sorted(items)):
            raise MalformedError("a list with repeated or unsorted items")
        return items


@dataclass(frozen=True)
class Record:
    """A fixed sequence of typed parts."""

    parts: tuple[Type, ...]

    def check(self, value: object) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(self.parts):
            raise MalformedError(f"not a record of {len(self.parts)}")
        return tuple(part.check(item) for part, item in zip(self.parts, value, strict=True))


Type = Uint | Bytes | Text | Many | Record

SERVICE: Final = Text("service name", r"(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+){0,5}")
POSTCODE: Final = Text("postcode", r"[0-9]{4,5}")
POSTCODE_PREFIX: Final = Text("postcode prefix", r"[0-9]{1,5}")
GROUP: Final = Text("group name", r"(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+){0,5}")
NODE_URL: Final = Text("node URL", r"https?://[a-z0-9.:\[\]-]{1,128}(/[a-z0-9/._-]{0,64})?")


def labelled(label: int, kind: Type, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field: its label in the map and its type."""
    return dataclasses.field(default=default, metadata={"label": label, "type": kind})


@dataclass(frozen=True)
class Statement:
    """Base of all kinds."""

    KIND: ClassVar[int] = -1
    BYTES_MAX: ClassVar[int] = ENTRY_BYTES_MAX

    def encode(self) -> bytes:
        """The one encoding. Raises `MalformedError` or `LimitError` for a value out of bounds."""
        fields: dict[int, object] = {0: self.KIND, 1: FORMAT_VERSION}
        for field, label, kind in _plan(type(self)):
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING or value != field.default:
                fields[label] = _listed(_checked(self, field.name, kind, value))
        data = cbor.encode(fields)
        if len(data) > self.BYTES_MAX:
            raise LimitError(f"a {type(self).__name__.lower()} of {len(data)} bytes; at most {self.BYTES_MAX}")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse. Raises `MalformedError` or `LimitError`."""
        fields = cbor.decode(data, size_bytes_max=cls.BYTES_MAX)
        head = [fields.get(0), fields.get(1)] if isinstance(fields, dict) else []
        if head != [cls.KIND, FORMAT_VERSION] or any(type(number) is not int for number in head):
            raise MalformedError(f"not a {cls.__name__.lower()} of format version {FORMAT_VERSION}")
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: dict[Any, Any]) -> Self:
        """From a decoded map whose kind and version fit."""
        values = {}
        for field, label, kind in _plan(cls):
            if label in fields:
                values[field.name] = _checked(cls, field.name, kind, fields[label])
            elif field.default is dataclasses.MISSING:
                raise MalformedError(f"a {cls.__name__.lower()} without {field.name}")
        return cls(**values)


_plans: dict[type, list[tuple[dataclasses.Field[Any], int, Type]]] = {}


def _plan(cls: type[Statement]) -> list[tuple[dataclasses.Field[Any], int, Type]]:
    if cls not in _plans:
        _plans[cls] = [(f, f.metadata["label"], f.metadata["type"]) for f in dataclasses.fields(cls)]
    return _plans[cls]


def _checked(owner: object, name: str, kind: Type, value: object) -> object:
    try:
        return kind.check(value)
    except MalformedError as error:
        what = owner.__name__ if isinstance(owner, type) else type(owner).__name__
        raise MalformedError(f"{name} of a {what.lower()} is {error}") from None


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def walk_types(cls: type[Statement], visit: Callable[[str, Type], None]) -> None:
    """Call `visit(field name, type)` for every type of a kind, inner ones included."""

    def descend(name: str, kind: Type) -> None:
        visit(name, kind)
        match kind:
            case Many(item=item):
                descend(name, item)
            case Record(parts=parts):
                for part in parts:
                    descend(name, part)
            case _:
                pass

    for field, _, kind in _plan(cls):
        descend(field.name, kind)
