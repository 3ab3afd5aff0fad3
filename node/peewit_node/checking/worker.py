"""A process that checks what arrives, and does nothing else: `python -m peewit_node.checking.worker FD`.

    frame    its length in bytes (4, big-endian), then CBOR: [job, …] to us, [answer, …] from us

Rules kept here: it has one socket, no key and no file; jobs are answered in order; answers do not wait for the rest of
a frame for longer than a moment. It ends when its node does, and not when a terminal or a supervisor stops both: the
node may still have requests to finish. It ends by itself if a frame takes a minute.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final

import cbor2

from peewit_node.checking.jobs import answer

HEAD_BYTES: Final = 4
HELD_S: Final = 0.004
HUNG_S: Final = 60


def serve(connection: socket.socket) -> None:
    """Answer until the other side is gone."""
    with connection, connection.makefile("rb") as incoming:
        while len(head := incoming.read(HEAD_BYTES)) == HEAD_BYTES:
            size = int.from_bytes(head, "big")
            if len(data := incoming.read(size)) < size:
                return
            jobs = cbor2.loads(data)
            signal.alarm(HUNG_S)  # ends it, also within a library, and if nobody is left to do so
            answers: list[Any] = []
            since = time.monotonic()
            for name, *arguments in jobs:
                answers.append(answer(name, arguments))
                if time.monotonic() - since > HELD_S:
                    connection.sendall(frame(answers))
                    answers, since = [], time.monotonic()
            if answers:
                connection.sendall(frame(answers))
            signal.alarm(0)


def frame(values: list[Any]) -> bytes:
    """As they are sent."""
    data: bytes = cbor2.dumps(values)
    return len(data).to_bytes(HEAD_BYTES, "big") + data


def main() -> None:
    """What the node starts."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()
    with suppress(ConnectionError):  # the node is gone
        serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
