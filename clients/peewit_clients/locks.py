"""One process at a time: a lock on a file beside what is locked, which goes with the process."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from peewit_clients.words import said
from peewit_federation.errors import OperatorError

PAUSE_S = 0.05


class InUseError(OperatorError):
    """Another process has it now."""


def take_lock(path: Path, what: Path, wait_s: float = 0.0) -> IO[bytes]:
    """Lock until the file is closed; wait for others for a while. Raises `InUseError` naming `what`."""
    lock, end_s = path.open("ab"), time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < end_s:
                time.sleep(PAUSE_S)
                continue
            lock.close()
            raise InUseError(said("error_in_use", path=what)) from None
        return lock
