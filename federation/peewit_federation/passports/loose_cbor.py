"""CBOR as other people's issuers write it: any valid encoding, within bounds, and one value only.

Our own formats accept one encoding of a value (`cbor`); passports of the world come with indefinite lengths, tags and
floats. Rules kept here: no key twice, nothing after the value, nothing nested deeper than 16; tags are dropped without
acting on what they say, so that no date is parsed, no regular expression compiled and no cycle made.
"""

from __future__ import annotations

import io
from typing import Any, Final

import cbor2

from peewit_federation.errors import LimitError, MalformedError

DEPTH_MAX: Final = 16
KNOWN_TAGS: Final = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
"Those that the library would act on."


def _content(value: Any, _: bool) -> Any:
    return value.value if isinstance(value, cbor2.CBORTag) else value


_DECODERS: Final = dict.fromkeys(KNOWN_TAGS, _content)


def decode(data: bytes, size_bytes_max: int) -> Any:
    """The value that `data` encodes. Raises `MalformedError` or `LimitError`."""
    if len(data) > size_bytes_max:
        raise LimitError(f"CBOR of {len(data)} bytes; at most {size_bytes_max} are read")
    source = io.BytesIO(data)
    decoder = cbor2.CBORDecoder(
        source, tag_hook=_content, semantic_decoders=_DECODERS, max_depth=DEPTH_MAX, allow_duplicate_keys=False,
    )  # fmt: skip
    try:
        value = decoder.decode()
    except (cbor2.CBORDecodeError, UnicodeDecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise MalformedError(f"not CBOR that can be read ({type(error).__name__})") from None
    if source.tell() != len(data):
        raise MalformedError(f"{len(data) - source.tell()} bytes follow the CBOR value")
    return value
