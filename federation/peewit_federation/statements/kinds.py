"""All kinds of entry by number, and which log may carry which.

Rules kept here: a log of one kind carries only its kinds. Entries of unknown kind or version, or that
are malformed, are mirrored and proven like all others, and count for nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from peewit_federation import cbor
from peewit_federation.errors import MalformedError, SenderError
from peewit_federation.statements.carried import Close, Device, Evidence, ForkRevocation
from peewit_federation.statements.codec import FORMAT_VERSION, Statement
from peewit_federation.statements.draw import DrawKey, TokenCount, TokenKey
from peewit_federation.statements.mediator import Catchment, Issuer, Provider, Revocation
from peewit_federation.statements.operator import Admission, Carried, CharterNotice, Node, Withdrawal

OPERATOR_KINDS: Final[dict[int, type[Statement]]] = {
    kind.KIND: kind for kind in (Node, Admission, Withdrawal, TokenKey, DrawKey, TokenCount, CharterNotice, Carried)
}
MEDIATOR_KINDS: Final[dict[int, type[Statement]]] = {
    kind.KIND: kind for kind in (Catchment, Provider, Issuer, Revocation)
}
CARRIED_KINDS: Final[dict[int, type[Statement]]] = {
    kind.KIND: kind for kind in (Device, Close, Evidence, ForkRevocation)
}
ALL_KINDS: Final = OPERATOR_KINDS | MEDIATOR_KINDS | CARRIED_KINDS


def read_entry(data: bytes, kinds: dict[int, type[Statement]]) -> Statement | None:
    """The statement in a log entry, or None if it is not one of `kinds` in a version we know."""
    try:
        return check_entry(data, kinds)
    except SenderError:
        return None


def check_entry(data: bytes, kinds: dict[int, type[Statement]]) -> Statement:
    """The statement in an entry. Raises `MalformedError` for one that claims a known kind but is not one."""
    statement = _parse(data)
    if kinds.get(statement.KIND) is not type(statement):
        raise MalformedError(f"kind {statement.KIND} does not belong into this log")
    return statement


@lru_cache(256)
def _parse(data: bytes) -> Statement:
    """An entry is checked when it is appended, and folded soon after: it is parsed once for both."""
    fields = cbor.decode(data)
    if not isinstance(fields, dict) or type(fields.get(0)) is not int:
        raise MalformedError("a log entry is a CBOR map with its kind under 0")
    kind = ALL_KINDS.get(fields[0])
    if kind is None:
        raise MalformedError(f"kind {fields[0]} does not belong into this log")
    if fields.get(1) != FORMAT_VERSION or type(fields[1]) is not int:
        raise MalformedError(f"format version {fields.get(1)!r:.20} is not {FORMAT_VERSION}")
    return kind.from_fields(fields)
