"""Text for paper: what the fonts can show that every reader of PDF has.

Rules kept here: what they lack stands as machines read it in documents (ICAO Doc 9303, part 3, section 6), word by
word; only scripts that these do not spell become question marks. The truth is in the codes and the store, not on paper.
"""

from __future__ import annotations

import re
from contextlib import suppress

from peewit_federation.errors import MalformedError
from peewit_federation.passports.names import FILLER, transliterate


def latin(text: str) -> str:
    """As it can be printed."""
    return re.sub(r"[^\W\d_]+", lambda word: _word(word[0]), text).encode("latin-1", "replace").decode("latin-1")


def _word(word: str) -> str:
    if all(character < "\u0100" for character in word):
        return word
    with suppress(MalformedError):
        plain = transliterate(word).replace(FILLER, " ")
        return plain if word.isupper() else plain.capitalize()
    return word
