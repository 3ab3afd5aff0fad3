"""Runs `peewit …` as people do, each in a process of its own, but without starting an interpreter each time.

One process has imported everything and waits; for each command it makes a copy of itself, which has the folder,
environment and streams that it is given and ends with the command. (`tests/real` and the demonstration start the
program itself.)
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REQUEST_BYTES_MAX = 1 << 20
_waiting: list[tuple[subprocess.Popen[bytes], Path]] = []


class Command:
    """A command that runs. Use `started`."""

    def __init__(self, words: tuple[str, ...], streams: Path, reader: asyncio.StreamReader, process: int) -> None:
        self._words = words
        self._output, self._errors = streams / "out", streams / "err"
        self._reader = reader
        self._process = process

    def output(self) -> str:
        """What it has written so far."""
        return self._output.read_text(encoding="utf-8")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self._process, signal.SIGINT)

    async def wait(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        answer = await self._reader.read()
        assert answer, f"peewit {' '.join(self._words)} was never run"
        return int(answer), self.output(), self._errors.read_text(encoding="utf-8")


@contextlib.asynccontextmanager
async def started(folder: Path, *words: str, env: dict[str, str] | None = None) -> AsyncIterator[Command]:
    """A command in the background."""
    settings = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "140", **(env or {})}
    with tempfile.TemporaryDirectory(prefix="peewit-") as name:
        streams = Path(name)
        output, errors = streams / "out", streams / "err"
        asked = {"words": words, "folder": str(folder), "env": settings, "out": str(output), "err": str(errors)}
        reader, writer = await asyncio.open_unix_connection(str(_address()))
        writer.write(json.dumps(asked).encode())
        writer.write_eof()
        yield Command(words, streams, reader, int(await reader.readline()))
        writer.close()


async def peewit(folder: Path, *words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    async with started(folder, *words, env=env) as command:
        return await command.wait()


def _address() -> Path:
    """Where the waiting process of this test process listens; started when it is first needed."""
    if not _waiting:
        folder = tempfile.TemporaryDirectory(prefix="peewit-")
        address = Path(folder.name) / "commands"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands", str(address)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        _waiting.append((process, address))

        def end() -> None:
            process.terminate()
            process.wait()
            folder.cleanup()

        atexit.register(end)
    return _waiting[0][1]


def _wait(address: str) -> None:
    """The waiting process."""
    from importlib.metadata import entry_points

    from peewit_clients.cli import GROUP, main

    for entry in entry_points(group=GROUP):
        entry.load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(64)
        print("waiting", flush=True)
        while True:
            connection, _ = door.accept()
            if os.fork() == 0:
                door.close()
                with connection:
                    _answer(connection, main)
                os._exit(0)
            connection.close()


def _answer(connection: socket.socket, main: Any) -> None:
    """Run what is asked for in one more copy, so that this one can tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    asked = json.loads(b"".join(parts))
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        connection.close()
        _run(asked, main)
    connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _run(asked: dict[str, Any], main: Any) -> None:
    code = 1
    try:
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["env"])
        for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, asked["out"], _NEW), (2, asked["err"], _NEW)):
            held = os.open(path, how, 0o600)
            os.dup2(held, number)
            os.close(held)
        sys.argv = ["peewit", *asked["words"]]
        main.main(prog_name="peewit")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

if __name__ == "__main__":
    _wait(sys.argv[1])
