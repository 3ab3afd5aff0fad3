"""One process at a time: a lock on a file beside what is locked, which goes with the process."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from peewit_federation.errors import OperatorError


def take_lock(path: Path, what: Path) -> IO[bytes]:
    """Lock until the file is closed. Raises `OperatorError` naming `what`."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise OperatorError(f"{what} is in use by another command; wait until it has ended") from None
    return lock
