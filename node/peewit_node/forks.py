"""What a node does about forked logs: prove, carry, keep its branch, fetch the one that is picked.

Rules kept here (design 4.3): evidence goes into the operator's log, where everybody gets it; the log is
neither cosigned nor followed any more; the revocations of the own branch are carried, newest first, at most
1,000 per log; what a close picks is held beside the own branch and served as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from peewit_federation.errors import ConflictError, ForgeryError, MalformedError
from peewit_federation.gossip.heads import same_size_evidence, shorter_evidence
from peewit_federation.log.checkpoint import Checkpoint, Head
from peewit_federation.log.follow import HistoryError
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.proof_file import LogProof
from peewit_federation.log.proofs import inclusion_proof
from peewit_federation.log.tiles import WIDTH
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.registry.vouched import FORK_REVOCATIONS_MAX
from peewit_federation.statements.carried import Close, Evidence, ForkRevocation, evidence_of, statement_id
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Revocation
from peewit_federation.statements.operator import Carried
from peewit_node.logs import Logs
from peewit_node.mirror import Mirror
from peewit_node.own_log import OwnLog
from peewit_node.peers import PeerError, Peers
from peewit_node.stored_log import Log

STATEMENTS_PER_APPEND: Final = 50
PAUSE_MAX_S: Final = 300.0
logger = structlog.get_logger("peewit.forks")


class Forks:
    """Fork evidence, and what follows from it."""

    def __init__(
        self,
        logs: Logs,
        registry: Registry,
        own: OwnLog,
        peers: Peers,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._clock = clock
        # Called when there is something for `sync` to do that no log tells of.
        self._changed = changed
        self._tries: dict[Close, tuple[int, float]] = {}
        self._logs = logs
        self._registry = registry
        self._own = own
        self._peers = peers
        self._carried: set[bytes] = set()
        self.mirror: Mirror

    async def same_size(self, log: Log, head: Head) -> None:
        """A head of the held size has another root."""
        assert log.head is not None
        await self.prove(log, same_size_evidence(log.key.public.raw, log.head, head))

    async def shorter(self, log: Log, head: Head) -> bool:
        """Whether a shorter head is on our history; if not, it is proven."""
        assert log.head is not None
        held, public = log.head, log.key.public.raw
        evidence = await self._logs.prove(log, held.size, lambda s: shorter_evidence(public, head, held, s))
        if evidence is None:
            return True
        await self.prove(log, evidence)
        return False

    async def longer(self, log: Log, head: Head, error: HistoryError) -> None:
        """A longer head does not extend what is held."""
        if log.head is not None and error.size == log.head.size:
            evidence = evidence_of(log.key.public.raw, log.head, head, error.other_root, error.path)
            await self.prove(log, evidence)

    async def prove(self, log: Log, evidence: Evidence) -> None:
        """Flag the log and tell everyone."""
        evidence.verify()
        logger.warning("a log forked", log=log.origin.hex(), mediators=len(self._mediators(log)))
        data = evidence.encode()
        await self._logs.mark_forked(log, data)
        if self._registry.carry(data) is not None:
            await self._own.append(Carried(data).encode())
        await self.carry_branch(log)

    async def resume(self) -> None:
        """After a start: carry the evidence that a crash kept from being carried."""
        for data in await self._logs.evidence():
            if self._registry.carry(data) is not None:
                await self._own.append(Carried(data).encode())

    async def sync(self) -> None:
        """Act on what the operators' logs say: evidence by others, closes to be settled."""
        for origin, evidence in list(self._registry.vouched.evidence.items()):
            log = self._logs.get(origin)
            if log is not None and (not log.forked or origin not in self._carried):
                await self._logs.mark_forked(log, evidence.encode())
                await self.carry_branch(log)
        for mediator, origin, close in self._registry.unsettled():
            await self._settle(mediator, origin, close)

    def _mediators(self, log: Log) -> set[bytes]:
        return self._registry.vouched.mediators_of.get(log.origin, set())

    async def carry_branch(self, log: Log) -> None:
        """Carry the revocations of our branch that nobody carries yet."""
        if log.origin in self._carried:
            return
        self._carried.add(log.origin)
        try:
            await self._carry_branch(log)
        except BaseException:
            self._carried.discard(log.origin)
            raise

    async def _carry_branch(self, log: Log) -> None:
        if log.head is None or not any(self._registry.close_of(m, log.origin) is None for m in self._mediators(log)):
            return None
        known = self._registry.vouched.fork_revocations.get(log.origin, {})
        room = FORK_REVOCATIONS_MAX - len(known)
        found: list[bytes] = []
        size, note = log.head.size, Head(log.head.checkpoint, log.head.log_signature).encode()
        for start in range((size - 1) // WIDTH * WIDTH, -1, -WIDTH):
            entries = await self._logs.entries(log, start, min(size, start + WIDTH))
            for index in range(start + len(entries) - 1, start - 1, -1):
                entry = entries[index - start]
                if not isinstance(read_entry(entry, MEDIATOR_KINDS), Revocation) or statement_id(entry) in known:
                    continue
                if len(found) >= room:
                    return await self._carry_all(found)
                path = await self._logs.prove(log, size, lambda s, i=index: inclusion_proof(i, size, s))  # type: ignore[misc]
                proof = LogProof(index, tuple(path), note, entry).encode()
                found.append(ForkRevocation(log.key.public.raw, proof).encode())
        return await self._carry_all(found)

    async def _carry_all(self, found: list[bytes]) -> None:
        for at in range(0, len(found), STATEMENTS_PER_APPEND):
            await self._own.append(*(Carried(data).encode() for data in found[at : at + STATEMENTS_PER_APPEND]))

    def picked(self, log: Log, head: Head) -> Close | None:
        """The close that counts and picks just this head's tree, if there is one."""
        for mediator in self._mediators(log):
            close = self._registry.close_of(mediator, log.origin)
            if close is not None and (close.size, close.root_hash) == (head.size, head.root):
                return close
        return None

    async def fill(self, log: Log, close: Close, start: int, entries: list[bytes]) -> None:
        """The owner brings the branch that a close picked, which perhaps no node has. Raises `SenderError`s."""
        if log.size >= close.size and await self._logs.root_at(log, close.size) == close.root_hash:
            return  # we have it
        if start or root_of(map(leaf_hash, entries)) != close.root_hash:
            raise ConflictError("a closed branch is brought whole, from entry 0 on, and must have the close's root", 0)
        branch = await self._logs.ensure(log.key, close.root_hash)
        async with branch.lock:
            await self._logs.extend(branch, entries=entries[branch.stored :])
        self._tries.pop(close, None)
        self._changed()

    async def _settle(self, mediator: bytes, origin: bytes, close: Close) -> None:
        log = self._logs.get(origin)
        limit = self._registry.mirrors(origin)
        if log is None or limit is None or close.size > limit:
            # The cut stands at a size beyond what anybody may write: nothing to fetch.
            return
        if log.size >= close.size and await self._logs.root_at(log, close.size) == close.root_hash:
            self._registry.settle(mediator, origin, close, MAIN)
            return
        tries, at_s = self._tries.get(close, (0, 0.0))
        if self._clock() < at_s:
            return
        branch = await self._fetch_branch(log, close)
        self._tries[close] = tries + 1, self._clock() + min(PAUSE_MAX_S, 0.25 * 2.0 ** min(tries, 12))
        if branch is not None:
            self._registry.grow(origin, branch.stored, branch.stored, branch.branch)
            self._registry.settle(mediator, origin, close, branch.branch)

    async def _fetch_branch(self, log: Log, close: Close) -> Log | None:
        branch = await self._logs.ensure(log.key, close.root_hash)
        target = Checkpoint(log.key.name, close.size, close.root_hash)
        prefix = f"/log/{log.origin.hex()}/closed/{close.root_hash.hex()}/"
        for peer in sorted(self._peers.all.values(), key=lambda p: p.failures):
            if branch.stored == close.size:
                break
            try:
                async with branch.lock:
                    if branch.stored < close.size:
                        await self.mirror.follow(branch, target, peer, prefix, None)
            except (PeerError, ForgeryError, MalformedError, HistoryError) as error:
                logger.info("a peer could not give a closed branch", peer=peer.name, reason=str(error))
        complete = branch.stored == close.size and branch.range.root() == close.root_hash
        return branch if complete else None
