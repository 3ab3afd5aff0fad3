"""Binary HTTP messages of known length (RFC 9292, section 3).

    request     00, method, scheme, authority, path, fields, content, trailers, padding
    response    01, status, fields, content, trailers, padding
    each text and content with its length before it, as a variable-length integer (RFC 9000, section 16); fields with
    the length of all of them. Example: 00 03 474554 05 6874747073 0b 6578616d706c652e636f6d 01 2f
    is "GET https://example.com/"; what is empty at the end may be left out.

Rules kept here: syntax and bounds. Padding is zeros, and brings a message to one of a few sizes, so that who carries it
learns little from its length. Fields are read and passed over: nodes need none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation.errors import LimitError, MalformedError

MESSAGE_BYTES_MAX: Final = 18 << 20
FIELDS_MAX: Final = 100
PADDED_BYTES: Final = (1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24)
REQUEST, RESPONSE = 0, 1
Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Request:
    """What is asked of a node."""

    method: str
    path: str
    content: bytes = b""
    scheme: str = "https"
    authority: str = ""
    fields: Fields = ()

    def encode(self) -> bytes:
        """Without padding."""
        control = (self.method, self.scheme, self.authority, self.path)
        start = bytes([REQUEST]) + b"".join(_string(text.encode("ascii")) for text in control)
        return start + _rest(self.fields, self.content)

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """Raises `MalformedError` or `LimitError`."""
        reader = _Reader(data)
        if reader.number() != REQUEST:
            raise MalformedError("not a binary HTTP request of known length")
        method, scheme, authority, path = (reader.text() for _ in range(4))
        fields, content = reader.rest()
        return cls(method, path, content, scheme, authority, fields)


@dataclass(frozen=True)
class Response:
    """What a node answers."""

    status: int
    content: bytes = b""
    fields: Fields = ()

    def encode(self) -> bytes:
        """Without padding."""
        return bytes([RESPONSE]) + _number(self.status) + _rest(self.fields, self.content)

    @classmethod
    def decode(cls, data: bytes) -> Response:
        """Raises `MalformedError` or `LimitError`. Informational responses are passed over."""
        reader = _Reader(data)
        if reader.number() != RESPONSE:
            raise MalformedError("not a binary HTTP response of known length")
        status = reader.number()
        for _ in range(FIELDS_MAX):
            if not 100 <= status < 200:
                break
            reader.section()
            status = reader.number()
        if not 200 <= status < 600:
            raise MalformedError(f"HTTP status {status}")
        fields, content = reader.rest()
        return cls(status, content, fields)


def pad(message: bytes) -> bytes:
    """A message with zeros behind it, up to the next of a few sizes."""
    for size in PADDED_BYTES:
        if len(message) <= size:
            return message.ljust(size, b"\0")
    return message


def _number(value: int) -> bytes:
    for exponent in range(4):
        size = 1 << exponent
        if value < 1 << (8 * size - 2):
            return (value | exponent << (8 * size - 2)).to_bytes(size, "big")
    raise MalformedError(f"{value} has no place in a variable-length integer")


def _string(data: bytes) -> bytes:
    return _number(len(data)) + data


def _rest(fields: Fields, content: bytes) -> bytes:
    lines = b"".join(_string(name.encode("ascii")) + _string(value.encode("latin-1")) for name, value in fields)
    parts = [_string(lines), _string(content), _string(b"")]
    while parts and parts[-1] == b"\0":
        parts.pop()  # an empty end may be left out
    return b"".join(parts)


class _Reader:
    """Reads from the beginning to the end."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MESSAGE_BYTES_MAX:
            raise LimitError(f"a binary HTTP message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX}")
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise MalformedError("a binary HTTP message ends too early")
        self._at += size
        return part

    def number(self) -> int:
        first = self._take(1)[0]
        size = 1 << (first >> 6)
        return int.from_bytes(bytes([first & 63]) + self._take(size - 1), "big")

    def string(self) -> bytes:
        return self._take(self.number())

    def text(self) -> str:
        try:
            return self.string().decode("ascii")
        except UnicodeDecodeError:
            raise MalformedError("a binary HTTP message with other than ASCII") from None

    def section(self) -> Fields:
        """Field lines."""
        inner = _Reader(self.string())
        found: list[tuple[str, str]] = []
        while inner._at < len(inner._data):
            found.append((inner.text().lower(), inner.string().decode("latin-1")))
            if len(found) > FIELDS_MAX:
                raise LimitError(f"more than {FIELDS_MAX} fields")
        return tuple(found)

    def rest(self) -> tuple[Fields, bytes]:
        """Fields, content, trailers and padding, of which the empty end may be missing."""
        fields = self.section() if self._at < len(self._data) else ()
        content = self.string() if self._at < len(self._data) else b""
        if self._at < len(self._data):
            self.section()
        if self._data[self._at :].strip(b"\0"):
            raise MalformedError("something other than zeros behind a binary HTTP message")
        return fields, content
