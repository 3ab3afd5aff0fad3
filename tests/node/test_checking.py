"""Processes that check for a node: the same answers as without them, and nothing is lost or doubled when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

import peewit_node.checking.processes as processes
from peewit_federation.api import Append
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.mailbox import Put, Terms, give_leave, read_messages
from peewit_federation.errors import (
    ConflictError,
    ForgeryError,
    LimitError,
    MalformedError,
    OperatorError,
    RefusedError,
    SenderError,
)
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.log.checkpoint import Checkpoint, cosign, log_key, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.tiles import encode_bundle
from peewit_node.checking.jobs import APPEND, ENVELOPE, JOBS, KINDS, PUT, Job, MistakeError, answer, found
from peewit_node.checking.processes import ManyCores, this_machine
from peewit_node.machine import CheckerError, LocalMachine
from tests.federation_kit import Federation, seed
from tests.federation_kit_http import get, post, until

OWNER, WRITER = SigningKey(seed("owner")), SigningKey(seed("writer"))
PATH = f"/v1/mailboxes/{key_id(OWNER.public).hex()}"
NOW_S = 1_800_000_000


def envelope(body: bytes = b"", number: int = 0, key: SigningKey = WRITER) -> Envelope:
    return Envelope("POST", PATH, seed("node"), NOW_S * 1000, seed("nonce", number)[:16], key.public, body)


def put(owner: SigningKey = OWNER, until_s: int = NOW_S + 10) -> bytes:
    leave = give_leave(owner, key_id(WRITER.public), until_s)
    return envelope(Put(leave, b"hello").encode()).sign(WRITER)


@pytest.fixture
async def machine() -> AsyncIterator[ManyCores]:
    machine = ManyCores(2)
    await machine.start()
    yield machine
    await machine.close()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", MalformedError),
        (bytes(200_000), LimitError),
        (envelope().sign(OWNER), ForgeryError),
        (envelope().sign(WRITER)[:-1] + b"\0", ForgeryError),
        (b"\x84" * 30, LimitError),
        (b"\x84" * 3, MalformedError),
    ],
)
async def test_another_process_refuses_what_this_one_refuses_in_the_same_words(
    machine: ManyCores, data: bytes, kind: type[SenderError]
) -> None:
    with pytest.raises(kind) as there:
        await machine.check(ENVELOPE, data)
    with pytest.raises(kind) as here:
        await LocalMachine().check(ENVELOPE, data)
    assert str(there.value) == str(here.value)
    assert type(there.value) is type(here.value)


async def test_another_process_finds_what_this_one_finds(machine: ManyCores) -> None:
    signed = envelope(b"body").sign(WRITER)
    assert await machine.check(ENVELOPE, signed) == await LocalMachine().check(ENVELOPE, signed) == envelope(b"body")
    found = await machine.check(PUT, put(), OWNER.public, NOW_S)
    assert found == await LocalMachine().check(PUT, put(), OWNER.public, NOW_S)
    assert (found.message, found.leave, found.envelope.signer) == (b"hello", True, key_id(WRITER.public))
    for data, kind in ((put(until_s=NOW_S), RefusedError), (put(owner=WRITER), ForgeryError)):
        with pytest.raises(kind):
            await machine.check(PUT, data, OWNER.public, NOW_S)


async def test_thousands_of_jobs_at_once_get_each_its_own_answer(machine: ManyCores) -> None:
    sent = [envelope(bytes(number % 7 * 1000), number) for number in range(1_000)]
    answers = await asyncio.gather(*(machine.check(ENVELOPE, item.sign(WRITER)) for item in sent))
    assert answers == sent


async def test_whoever_stops_waiting_takes_nobodys_answer(machine: ManyCores) -> None:
    sent = [envelope(number=number) for number in range(60)]
    tasks = [asyncio.create_task(machine.check(ENVELOPE, item.sign(WRITER))) for item in sent]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(got, asyncio.CancelledError) for got in answers[::3])
    assert [got for n, got in enumerate(answers) if n % 3] == [item for n, item in enumerate(sent) if n % 3]


async def test_a_mistake_of_ours_is_told_apart_from_one_of_the_sender(machine: ManyCores) -> None:
    with pytest.raises(MistakeError, match="envelope: TypeError"):
        await machine.check(ENVELOPE, 5)
    with pytest.raises(MistakeError, match="no such job"):
        await machine.check(Job("no such job", ENVELOPE.work, ENVELOPE.read), b"")
    assert await machine.check(ENVELOPE, envelope().sign(WRITER)) == envelope()


def test_a_head_with_lines_of_others_comes_back_as_it_came() -> None:
    """The node holds them against the witnesses of its charter, which a process does not know."""
    entry = b"\xa0"
    head = sign_checkpoint(Checkpoint(log_key(OWNER.public).name, 1, root_of([leaf_hash(entry)])), OWNER)
    cosigned = head.with_cosignature("w", cosign(head.checkpoint, "w", WRITER, NOW_S))
    for sent, note in ((head, b""), (cosigned, cosigned.encode())):
        data = Append(0, encode_bundle([entry]), sent.encode()).encode()
        read = found(APPEND, answer("append", [data, OWNER.public]), data, OWNER.public)
        assert (read.old_size, read.entries, read.head, read.note) == (0, [entry], head, note)
    with pytest.raises(ForgeryError):
        found(APPEND, answer("append", [data, WRITER.public]), data, WRITER.public)


def test_every_kind_of_refusal_comes_back_as_itself() -> None:
    def raising(kind: type[SenderError]) -> Job[None]:
        def work() -> None:
            raise kind("why")

        return Job("envelope", work, lambda *_: None)

    class SpecialError(ForgeryError):
        pass

    for kind in (*KINDS.values(), SpecialError, ConflictError):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(JOBS, "envelope", raising(kind))
            said = answer("envelope", [])
        known = {SpecialError: ForgeryError, ConflictError: RefusedError}
        with pytest.raises(known.get(kind, kind), match="why"):
            found(ENVELOPE, said)


async def test_what_a_killed_process_had_is_refused_and_the_next_is_checked_by_another(machine: ManyCores) -> None:
    pids = [process.pid for process in machine.processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that jobs are under way when they die
    jobs = [asyncio.create_task(machine.check(ENVELOPE, envelope(number=n).sign(WRITER))) for n in range(200)]
    await asyncio.sleep(0.1)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(got, CheckerError) for got in answers)
    assert machine.lacking == 2
    with pytest.raises(CheckerError, match="try again soon"):
        await machine.check(ENVELOPE, envelope().sign(WRITER))
    await until(lambda: machine.lacking == 0)
    assert not {process.pid for process in machine.processes} & set(pids)
    assert await machine.check(ENVELOPE, envelope().sign(WRITER)) == envelope()


async def test_the_others_go_on_when_one_is_killed(machine: ManyCores) -> None:
    os.kill(machine.processes[0].pid, signal.SIGKILL)
    await until(lambda: machine.lacking == 1)
    assert await machine.check(ENVELOPE, envelope().sign(WRITER)) == envelope()


async def test_a_process_that_does_not_answer_is_ended(machine: ManyCores, monkeypatch: pytest.MonkeyPatch) -> None:
    await machine.check(ENVELOPE, envelope().sign(WRITER))
    monkeypatch.setattr(processes, "ANSWER_S", 0.2)
    pids = [process.pid for process in machine.processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(CheckerError, match="send it again"):
        await machine.check(ENVELOPE, envelope().sign(WRITER))
    monkeypatch.undo()
    for process in machine.processes:
        if process.pid in pids:
            os.kill(process.pid, signal.SIGCONT)
    await until(lambda: machine.lacking == 0)
    assert await machine.check(ENVELOPE, envelope().sign(WRITER)) == envelope()


async def test_a_process_that_does_not_answer_is_ended_although_more_jobs_come(
    machine: ManyCores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine.check(ENVELOPE, envelope().sign(WRITER))
    monkeypatch.setattr(processes, "ANSWER_S", 0.6)
    for process in machine.processes:
        os.kill(process.pid, signal.SIGSTOP)
    jobs: list[asyncio.Task[Envelope]] = []
    async with asyncio.timeout(20):
        while not any(job.done() for job in jobs):
            jobs.append(asyncio.create_task(machine.check(ENVELOPE, envelope(number=len(jobs)).sign(WRITER))))
            await asyncio.sleep(0.1)
    with pytest.raises(CheckerError):
        await jobs[0]
    assert len(jobs) < 30
    await asyncio.gather(*jobs, return_exceptions=True)


async def test_a_job_that_cannot_be_sent_is_a_mistake_and_nobody_waits_for_ever(machine: ManyCores) -> None:
    good = machine.check(ENVELOPE, envelope().sign(WRITER))
    bad = machine.check(ENVELOPE, object())
    async with asyncio.timeout(10):
        answers = await asyncio.gather(good, bad, return_exceptions=True)
    assert isinstance(answers[1], MistakeError)
    assert await machine.check(ENVELOPE, envelope().sign(WRITER)) == envelope()


async def test_what_is_large_is_not_sent_to_anybody(machine: ManyCores) -> None:
    """Thirty-two appends of eight megabytes in one frame held everybody up for seconds."""
    entries = [bytes(60_000)] * 4
    size = len(entries)
    head = sign_checkpoint(Checkpoint(log_key(OWNER.public).name, size, root_of(map(leaf_hash, entries))), OWNER)
    data = Append(0, encode_bundle(entries), head.encode()).encode()
    for process in machine.processes:
        os.kill(process.pid, signal.SIGSTOP)
    read = await machine.check(APPEND, data, OWNER.public)
    assert (read.entries, read.head) == (entries, head)


async def test_processes_import_nothing_from_where_the_node_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cbor2.py").write_text("raise SystemExit('this is not ours')")
    monkeypatch.chdir(tmp_path)
    machine = ManyCores(1)
    await machine.start()
    assert await machine.check(ENVELOPE, envelope().sign(WRITER)) == envelope()
    await machine.close()


async def test_a_start_that_fails_leaves_no_process_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = processes.CheckingProcess.start
    started: list[processes.CheckingProcess] = []

    async def start(process: processes.CheckingProcess) -> None:
        if started:
            raise OSError(24, "Too many open files")
        await real(process)
        started.append(process)

    monkeypatch.setattr(processes.CheckingProcess, "start", start)
    with pytest.raises(OperatorError, match="checkers: 2 processes .* Too many open files; 0 does without them"):
        await this_machine(2)
    assert not _alive(started[0].pid)


async def test_a_start_that_fails_later_is_tried_again_whatever_the_reason(
    machine: ManyCores, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = processes.CheckingProcess.start
    tries: list[processes.CheckingProcess] = []

    async def start(process: processes.CheckingProcess) -> None:
        tries.append(process)
        if len(tries) == 1:
            raise RuntimeError("can't start new thread")
        await real(process)

    monkeypatch.setattr(processes.CheckingProcess, "start", start)
    monkeypatch.setattr(processes, "RESTART_S", 0.1)
    os.kill(machine.processes[0].pid, signal.SIGKILL)
    await until(lambda: len(tries) == 2 and machine.lacking == 0)


async def test_what_ends_a_terminal_or_a_service_does_not_end_a_check(machine: ManyCores) -> None:
    await asyncio.gather(*(machine.check(ENVELOPE, envelope().sign(WRITER)) for _ in range(64)))  # both are up
    for process in machine.processes:
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    answers = [await machine.check(ENVELOPE, envelope(number=n).sign(WRITER)) for n in range(20)]
    assert answers == [envelope(number=n) for n in range(20)]
    assert machine.lacking == 0


async def test_a_node_with_processes_answers_refuses_and_says_when_they_are_gone(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    federation.machine = machine = ManyCores(1)
    await machine.start()
    await federation.start("north")
    url, node = federation.url("north"), federation.nodes["north"].state.operator.origin_hash
    count = iter(range(100))

    def signed(key: SigningKey, path: str, body: bytes) -> bytes:
        now_ms = int(time.time() * 1000)
        return Envelope("POST", path, node, now_ms, seed("n", next(count))[:16], key.public, body).sign(key)

    leave = give_leave(OWNER, key_id(WRITER.public), int(time.time()) + 100)
    opening = signed(OWNER, PATH, Terms(int(time.time()) + 1000, False).encode())
    message = signed(WRITER, PATH + "/messages", Put(leave, b"hello").encode())
    assert (await post(url + PATH, opening))[0] == 200
    assert (await post(url + PATH + "/messages", message))[0] == 200
    status, body = await post(url + PATH + "/messages", message)
    assert (status, b"opened before" in body) == (403, True), "a replay is seen by the node, not by who checks"
    status, body = await post(url + PATH + "/messages", message[:-1] + bytes([message[-1] ^ 1]))
    assert status == 422
    os.kill(machine.processes[0].pid, signal.SIGKILL)
    await until(lambda: machine.lacking == 1)
    status, body = await post(url + PATH + "/read", signed(OWNER, PATH + "/read", b""))
    assert (status, b"try again soon" in body) == (503, True)
    status, body = await get(url + "/readyz")
    assert (status, b"1 processes that check what arrives do not run" in body) == (503, True)
    assert b"peewit_checkers_lacking 1.0" in (await get(url + "/metrics"))[1]
    await until(lambda: machine.lacking == 0)
    status, body = await post(url + PATH + "/read", signed(OWNER, PATH + "/read", b""))
    assert (status, read_messages(body)) == (200, [b"hello"])
    await federation.stop()
    assert machine.lacking == 0, "a node does not end what it did not start"
    await machine.close()
    assert not _alive(machine.processes[0].pid)


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_processes_end_with_their_node_however_it_ends(tmp_path: Path) -> None:
    Federation.make(tmp_path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        command = [sys.executable, "-m", "peewit_clients.cli", "node", "run", str(tmp_path / "north" / "node.toml")]
        node = subprocess.Popen(command, env={**os.environ, "PEEWIT_NODE_CHECKERS": "2"}, stderr=subprocess.DEVNULL)
        children = Path(f"/proc/{node.pid}/task/{node.pid}/children")

        def workers(children: Path = children) -> list[int]:
            return [int(pid) for pid in children.read_text().split()] if children.exists() else []

        try:
            await until(lambda workers=workers: len(workers()) == 2)
            pids = workers()
            node.send_signal(number)
            node.wait(30)
            await until(lambda pids=pids: not any(map(_alive, pids)))
        finally:
            node.kill()
            node.wait()


async def test_none_are_started_if_none_are_wanted() -> None:
    assert type(await this_machine(0)) is LocalMachine
