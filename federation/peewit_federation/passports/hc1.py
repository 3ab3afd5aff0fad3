"""The container of an EU Digital COVID Certificate: what a QR code holds around a COSE message.

    HC1:NCFOXN%TSMAHN-H9QCGDSB5QPN9OO3TH4O…        "HC1:", then base45 of zlib (RFC 1950) of a COSE_Sign1

Source: European eHealth network, "Technical Specifications for EU Digital COVID Certificates", volume 3. Rules kept
here: what was packed is unpacked within bounds, and nothing follows it. Some issuers leave out compression, which the
specification does not allow; so do we not.
"""

from __future__ import annotations

import zlib
from typing import Final

from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.passports import base45

PREFIX: Final = "HC1:"
TEXT_MAX: Final = 8_000
"Characters; the largest QR code holds 4,296."
COSE_BYTES_MAX: Final = 32 * 1024


def pack(cose: bytes) -> str:
    """The text for a QR code."""
    return PREFIX + base45.encode(zlib.compress(cose, 9))


def unpack(text: str) -> bytes:
    """The COSE message in a QR code's text. Raises `MalformedError` or `LimitError`."""
    return inflate(base45.decode(unprefix(text)))


def unprefix(text: str) -> str:
    """Without `HC1:`. White space that a scanner or a copy adds at the ends is dropped."""
    if len(text) > TEXT_MAX:
        raise LimitError(f"a text of {len(text)} characters; a QR code holds 4,296")
    # A space is a character of base45, so only what a file or a terminal adds after the last line goes.
    text = text.lstrip().rstrip("\r\n\t")
    if not text.startswith(PREFIX):
        raise MalformedError("a code that does not begin with HC1:, so no EU Digital COVID Certificate")
    return text.removeprefix(PREFIX)


def inflate(data: bytes) -> bytes:
    """Unpack zlib, at most `COSE_BYTES_MAX`. Raises `MalformedError` or `LimitError`."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, COSE_BYTES_MAX)
    except zlib.error:
        raise MalformedError("what stands in the code is not packed with zlib") from None
    if unpacker.unconsumed_tail:
        raise LimitError(f"what stands in the code unpacks to more than {COSE_BYTES_MAX} bytes")
    if not unpacker.eof:
        raise MalformedError("what stands in the code is cut off")
    if unpacker.unused_data:
        raise MalformedError(f"{len(unpacker.unused_data)} bytes follow what stands in the code")
    return found
