"""A proof that travels alone (C2SP tlog-proof): how an entry is shown away from its log.

    c2sp.org/tlog-proof@v1
    extra YWdlLXYx…            optional, not authenticated by itself: here, the entry
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    …

    peewit/0d2f…e1
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — peewit/0d2f…e1 hI2DJw…

Rules kept here: syntax, and that the path leads to the checkpoint's root. Who signed the checkpoint
and whether its cosignatures suffice is left to the caller (`open_head`, `policy`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.log.checkpoint import Checkpoint, parse_size
from peewit_federation.log.merkle import PROOF_HASHES_MAX, leaf_hash, verify_inclusion
from peewit_federation.log.note import NOTE_BYTES_MAX, Note, b64decode, b64encode

HEADER: Final = "c2sp.org/tlog-proof@v1"
PROOF_BYTES_MAX: Final = NOTE_BYTES_MAX + 128 * 1024


@dataclass(frozen=True)
class LogProof:
    """An index, an audit path and a signed checkpoint, with `extra` beside them."""

    index: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The text of a `.tlog-proof` file."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append("extra " + b64encode(self.extra))
        lines.append(f"index {self.index}")
        lines += map(b64encode, self.path)
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint_note

    @classmethod
    def parse(cls, data: bytes) -> LogProof:
        """Parse the text. Raises `MalformedError` or `LimitError`."""
        if len(data) > PROOF_BYTES_MAX:
            raise LimitError(f"a proof of {len(data)} bytes; at most {PROOF_BYTES_MAX} are accepted")
        head, separator, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise MalformedError("a proof with other than ASCII text before its checkpoint") from None
        if not separator or lines.pop(0) != HEADER:
            raise MalformedError(f"a proof starts with {HEADER}")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = b64decode(lines.pop(0)[6:], "the extra data")
        if not lines or not lines[0].startswith("index "):
            raise MalformedError("a proof without its index line")
        index = parse_size(lines.pop(0)[6:])
        if len(lines) > PROOF_HASHES_MAX:
            raise LimitError(f"a proof of {len(lines)} hashes; at most {PROOF_HASHES_MAX} are possible")
        path = tuple(b64decode(line, "a hash of the proof") for line in lines)
        if any(len(node) != 32 for node in path):
            raise MalformedError("a hash of the proof is not 32 bytes long")
        Note.parse(note)
        return cls(index, path, note, extra)

    def verify(self, entry: bytes, checkpoint: Checkpoint) -> None:
        """Raise `ForgeryError` unless `entry` stands at `index` in the tree of `checkpoint`."""
        verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, checkpoint.root, self.path)
