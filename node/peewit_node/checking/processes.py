"""Processes that check for a node, so that it uses more than one core and answers others meanwhile.

Rules kept here: a process has few jobs at once, the others wait for whichever is free; jobs of one turn of the loop
travel together, sixteen at a time; what is large is done in here, for sending it costs more. A process that ends, or
does not answer in time, is started again; what it had is refused and not tried in here, for whatever ended it might end
the node. While none runs, jobs are refused at once.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeVar

import cbor2
import structlog

from peewit_federation.errors import OperatorError
from peewit_node.checking.jobs import MISTAKE, Job, found
from peewit_node.checking.worker import HEAD_BYTES, frame
from peewit_node.machine import CheckerError, LocalMachine, Machine

UNDER_WAY_MAX: Final = 64
"Jobs of one process."
TOGETHER: Final = 16
"Jobs that are handed over before a turn ends, for a process has nothing to do meanwhile."
ANSWER_S: Final = 20.0
"In which it answers one of them, or is ended."
RESTART_S: Final = 1.0
END_S: Final = 1.0
SOCKET_BYTES: Final = 1 << 20
LARGE_BYTES: Final = 160 * 1024
"A job with more is done in the node: only appends are as large, whose parts are found by their lengths."
T = TypeVar("T")
logger = structlog.get_logger("peewit.checking")
Waiting = tuple[list[Any], "asyncio.Future[list[Any]]"]


async def this_machine(checkers: int) -> Machine:
    """The machine that a node runs on, with so many processes that check. Raises `OperatorError`."""
    if not checkers:
        return LocalMachine()
    machine = ManyCores(checkers)
    try:
        await machine.start()
    except OSError as error:
        reason = f"checkers: {checkers} processes that check cannot be started: {error}; 0 does without them"
        raise OperatorError(reason) from None
    return machine


class ManyCores(LocalMachine):
    """A machine that checks in processes of its own."""

    def __init__(self, processes: int) -> None:
        self.processes = [CheckingProcess(self._send) for _ in range(processes)]
        self._keepers: list[asyncio.Task[None]] = []
        self._waiting: deque[Waiting] = deque()
        self._asked = False

    async def start(self) -> None:
        """Start them; they answer a moment later. Raises `OSError`."""
        try:
            for process in self.processes:
                await process.start()
        except BaseException:
            await self.close()
            raise
        self._keepers = [asyncio.create_task(self._keep(process)) for process in self.processes]

    async def _keep(self, process: CheckingProcess) -> None:
        while True:
            await process.ended.wait()
            logger.error("a process that checks has ended; it is started again", code=await process.reap())
            await asyncio.sleep(RESTART_S)
            try:
                await process.start()
            except Exception as error:  # whatever it is, the next time may be better
                logger.error("a process that checks cannot be started", reason=repr(error))  # noqa: TRY400

    @property
    def lacking(self) -> int:
        return sum(not process.running for process in self.processes)

    async def check(self, job: Job[T], *arguments: Any) -> T:
        if self.lacking == len(self.processes):
            raise CheckerError("the processes of this node that check are being started again; try again soon")
        if sum(len(argument) for argument in arguments if isinstance(argument, bytes)) > LARGE_BYTES:
            return await super().check(job, *arguments)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append(([job.name, *arguments], answer))
        if len(self._waiting) >= TOGETHER:
            self._send()
        elif not self._asked:
            # Whoever comes in the same turn goes along.
            self._asked = True
            loop.call_soon(self._send)
        return found(job, await answer, *arguments)

    def _send(self) -> None:
        """Hand over what waits, as far as there is room."""
        self._asked = False
        running = [process for process in self.processes if process.running]
        if not running:
            _refuse(answer for _, answer in self._waiting)
            self._waiting.clear()
        while self._waiting and (free := [process for process in running if process.room]):
            share = -(-len(self._waiting) // len(free))
            emptiest = max(free, key=lambda process: process.room)
            count = min(share, emptiest.room)
            emptiest.send([self._waiting.popleft() for _ in range(count)])

    async def close(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        for process in self.processes:
            process.stop()
            await process.reap()


class CheckingProcess(asyncio.Protocol):
    """One of them, as the node sees it."""

    def __init__(self, progressed: Callable[[], None]) -> None:
        self.ended = asyncio.Event()
        "Set while it does not run."
        self._progressed = progressed
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._under_way: deque[asyncio.Future[list[Any]]] = deque()
        self._received = bytearray()
        self._late: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether it takes jobs."""
        return self._transport is not None

    @property
    def room(self) -> int:
        """How many more jobs it takes now."""
        return UNDER_WAY_MAX - len(self._under_way)

    @property
    def pid(self) -> int:
        """Its process id, 0 if it does not run."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start it. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        with theirs:
            # -P: modules that happen to lie where the node was started are not ours.
            command = [sys.executable, "-P", "-m", "peewit_node.checking.worker", str(theirs.fileno())]
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL
                )
            except BaseException:
                ours.close()
                raise
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
        self.ended.clear()

    def send(self, jobs: list[Waiting]) -> None:
        """Hand jobs over."""
        assert self._transport is not None
        try:
            data = frame([job for job, _ in jobs])
        except Exception as error:
            for _, answer in jobs:
                if not answer.done():
                    answer.set_result([MISTAKE, "", repr(error)])
            return
        self._transport.write(data)
        self._under_way += [answer for _, answer in jobs]
        if self._late is None:
            self._watch()

    def stop(self) -> None:
        """End it; what it had is refused."""
        if self._transport is not None:
            self._transport.abort()
        self._gone()

    async def reap(self) -> int | None:
        """Wait until it is gone for good: the code with which it ended."""
        if self._process is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                return await self._process.wait()  # it ends when its socket does
        with suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()

    def _watch(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = asyncio.get_running_loop().call_later(ANSWER_S, self.stop) if self._under_way else None

    def _gone(self) -> None:
        self._transport = None
        self._received.clear()
        _refuse(self._under_way)
        self._under_way.clear()
        self._watch()
        self.ended.set()
        self._progressed()

    # As a protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= HEAD_BYTES:
            end = HEAD_BYTES + int.from_bytes(self._received[:HEAD_BYTES], "big")
            if len(self._received) < end:
                break
            with memoryview(self._received) as view:
                answers = cbor2.loads(bytes(view[HEAD_BYTES:end]))
            del self._received[:end]
            for said in answers:
                answer = self._under_way.popleft()
                if not answer.done():
                    answer.set_result(said)
        self._watch()
        self._progressed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the name is asyncio's)
        if self.running:
            self._gone()


def _refuse(answers: Iterable[asyncio.Future[list[Any]]]) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(CheckerError("a process of this node ended before it answered; send it again"))
