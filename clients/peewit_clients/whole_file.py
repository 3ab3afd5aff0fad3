"""Files that are replaced whole: who reads one finds what it was before, or what it is now, also after a power loss.

Rules kept here: what is new is on the disk before it takes the place of what was; the folder is, too.
"""

from __future__ import annotations

import os
from pathlib import Path

from peewit_federation.errors import OperatorError


def replace_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put new bytes in the place of a file, or make it. Raises `OperatorError` naming it."""
    fresh = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
