"""The operator's own door to its running node: a Unix socket in the data directory."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path

from peewit_federation import cbor
from peewit_federation.errors import NotRunningError, RefusedError

ADMIN_SOCKET = "admin.sock"
ADMIN_TIMEOUT_S = 60.0


def knock(data: Path, path: str, body: bytes) -> int:
    """Give something to the node whose data directory this is; the number that it answers.

    Raises `NotRunningError` if it does not run, `RefusedError` if it refuses.
    """
    door = data / ADMIN_SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ADMIN_TIMEOUT_S)
            connection.connect(str(door))
            client = http.client.HTTPConnection("localhost")
            client.sock = connection
            client.request("POST", path, body)
            response = client.getresponse()
            answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotRunningError(f"{door}: {reason}; is the node running? Start it with `peewit node run`") from None
    if response.status != 200:
        raise RefusedError(_reason(answer))
    number: int = cbor.decode(answer)[0]
    return number


def _reason(answer: bytes) -> str:
    """What a refusal says (RFC 9457)."""
    try:
        return str(json.loads(answer)["title"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")
