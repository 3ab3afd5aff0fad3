"""Every error that `federation/` raises, named by whose fault it is.

PeewitError
├── SenderError          whoever handed us these bytes
│   ├── MalformedError   they are not the format they claim to be
│   ├── LimitError       they are too large, too deep, too many
│   ├── ForgeryError     a signature or a proof does not hold
│   ├── UnknownError     they speak of something that nobody vouched for
│   ├── RefusedError     they are genuine, but not allowed
│   │   └── QuotaError   they are genuine, but more than was granted
│   └── ConflictError    they are genuine, but do not fit what is already here
├── AuthorError          the author of a log broke the rules of its own log
│                        (`log.follow.HistoryError`: a head that excludes what is held)
└── OperatorError        our own operator's charter or configuration
    └── NotRunningError  our own node, which should be asked, does not run

Messages are sentences: what was wrong, where, and (where it helps) what to do next. They never
repeat more of hostile input than its kind, position and size.
"""

from __future__ import annotations

from typing import Final

NETWORK_WORDS: Final[dict[type[Exception], str]] = {
    ConnectionRefusedError: "nobody listens there",
    ConnectionResetError: "the connection was cut off",
    BrokenPipeError: "the connection was cut off",
}


class PeewitError(Exception):
    """Base of all errors with a cause that we can name."""


class SenderError(PeewitError):
    """The fault of whoever handed us the input."""


class MalformedError(SenderError):
    """The bytes are not the format they claim to be."""


class LimitError(SenderError):
    """The input is larger, deeper or more than a stated limit."""


class ForgeryError(SenderError):
    """A signature or proof does not hold."""


class UnknownError(SenderError):
    """The input speaks of a log, key or subject that nobody vouched for."""


class RefusedError(SenderError):
    """The input is genuine but not allowed."""


class QuotaError(RefusedError):
    """The input is genuine but more than was granted."""


class ConflictError(SenderError):
    """The input is genuine but does not fit what is already held.

    `size` is the size of the log that is held, in entries, so that its owner can go on from there.
    """

    def __init__(self, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.size = size


class AuthorError(PeewitError):
    """The author of a log broke the rules of its own log."""


class OperatorError(PeewitError):
    """The fault of our own operator: a charter or a configuration that cannot be used."""


class NotRunningError(OperatorError):
    """Our own node, which should be asked, does not run."""


def network_words(error: Exception) -> str:
    """What went wrong with a connection, for a person: what the system says, or what a certificate lacks."""
    certificate = getattr(getattr(error, "certificate_error", None), "verify_message", None)
    if certificate:
        return f"its certificate does not hold: {certificate}"
    inner = getattr(error, "os_error", None) or error
    for kind, words in NETWORK_WORDS.items():
        if isinstance(inner, kind):
            return words
    return str(getattr(inner, "strerror", None) or inner or "the connection broke")
