"""What a verifier's device knows of issuers and revocations: fetched from the federation, kept in a file.

    trust = await gather(view, mediators)
    save(path, trust)

Rules kept here: it comes from the mediators' logs, followed whole and compared over several nodes, so that nobody can
leave a revocation out; what an earlier file knew as revoked stays revoked; a mediator that is not confirmed keeps the
time at which it last was, so that its passports grow stale and those of others do not. A key that did not agree to
stand in a mediator's log is left out: public keys are public, and what is said of one there would bind its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from peewit_clients.registry_view import RegistryView
from peewit_clients.whole_file import replace_whole
from peewit_federation.errors import OperatorError, SenderError
from peewit_federation.keys import key_id
from peewit_federation.passports.messages import consented
from peewit_federation.passports.revocation import PASSPORT_KIND, RevokedList
from peewit_federation.passports.signed import KID_BYTES
from peewit_federation.passports.signer import Signer, has_signed, read_signer
from peewit_federation.passports.trust import Trust
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Issuer

AT_ONCE: Final = 32


async def gather(
    view: RegistryView, known: Trust, progress: Callable[[int, int], object] = lambda _done, _all: None
) -> Trust:
    """Everything that all mediators of the federation say, joined with what was known before."""
    await view.refresh([])
    mediators = sorted(view.registry.admissions)
    for start in range(0, len(mediators), AT_ONCE):
        await view.refresh(mediators[start : start + AT_ONCE])
        progress(min(start + AT_ONCE, len(mediators)), len(mediators))
    signers: list[Signer] = []
    revoked: list[tuple[bytes, bytes]] = []
    as_of = dict(known.as_of)
    for mediator in mediators:
        signers += _signers(view, mediator)
        fold = view.registry.folds.get(mediator)
        subjects = fold.subjects.items() if fold else ()
        revoked += [(mediator, name) for (kind, name), state in subjects if kind == PASSPORT_KIND and state.revocations]
        fresh = view.freshness.get(mediator)
        if fresh is not None and fresh.as_of_s is not None:
            as_of[mediator] = max(fresh.as_of_s, as_of.get(mediator, 0))
    keys = {
        device.log_key for mediator in mediators for origin in view.registry.cuts.get(mediator, {})
        if (device := view.registry.vouched.device(origin)) and view.registry.close_of(mediator, origin) is None
    }  # fmt: skip
    kept = [signer for signer in known.all() if signer.revoked or signer.imported]
    # A key that got another certificate keeps the ids under which it signed before.
    by_key = {(signer.mediator, signer.public_key): signer for signer in signers}
    kept += [
        replace(now, kid=old.kid)
        for old in known.all()
        if (now := by_key.get((old.mediator, old.public_key))) is not None
    ]
    return Trust.of(as_of, [*signers, *kept], known.revoked | RevokedList.of(revoked), keys)


def _signers(view: RegistryView, mediator: bytes) -> Iterator[Signer]:
    fold, now_s = view.registry.folds.get(mediator), int(view.clock())
    for kind, subject in sorted(fold.subjects if fold else ()):
        if kind != Issuer.KIND:
            continue
        found = view.finder.look(mediator, kind, subject, now_s)
        statement = read_entry(view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if not isinstance(statement, Issuer) or not view.finder.in_scope(found, now_s):
            continue
        certified = _certified(view, statement)
        if certified is not None and certified.authority:
            continue  # it signs certificates
        try:
            agreed = has_signed(statement.public_key, statement.consent, consented(mediator))
        except SenderError as error:
            view.pool.complain("a mediator's log", f"an issuer key: {error}")
            continue
        if not agreed:
            view.pool.complain("a mediator's log", f"the issuer key {subject.hex()[:16]}… never agreed to stand there")
            continue
        yield Signer(
            certified.kid if certified else key_id(statement.public_key)[:KID_BYTES], statement.public_key,
            statement.not_before, statement.not_after, frozenset("v"), certified.country if certified else "",
            statement.certificate if certified else b"", mediator, found.verdict is Verdict.REVOKED,
            suspended=found.verdict is Verdict.SUSPENDED, signs_until_s=statement.signs_until,
        )  # fmt: skip


def _certified(view: RegistryView, statement: Issuer) -> Signer | None:
    """What the certificate in an issuer's entry says, if it is one of this key."""
    if not statement.certificate:
        return None
    try:
        found = read_signer(statement.certificate)
    except SenderError as error:
        view.pool.complain("a mediator's log", f"an issuer's certificate: {error}")
        return None
    return found if found.public_key == statement.public_key else None


def load(path: Path, *, missing_ok: bool = False) -> Trust:
    """Raises `OperatorError` saying what to do."""
    try:
        return Trust.decode(path.read_bytes())
    except SenderError as error:
        raise OperatorError(f"{path}: {error}; move it away, then say `peewit trust refresh`") from None
    except FileNotFoundError:
        if missing_ok:
            return Trust()
        raise OperatorError(f"{path} is not there; fetch whom to trust with `peewit trust refresh`") from None
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None


def save(path: Path, trust: Trust) -> None:
    """Replace the file whole. Raises `OperatorError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    replace_whole(path, trust.encode(), 0o644)
