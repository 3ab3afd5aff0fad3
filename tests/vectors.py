"""Examples of every format, from fixed seeds: what docs/protocol.md shows and docs/vectors.json freezes."""

from __future__ import annotations

from datetime import date

from peewit_clients.charters import Card, compose_charter, usual_draw
from peewit_federation.api import Answer as ClientAnswer
from peewit_federation.api import Append
from peewit_federation.appointment.applications import Application, Decision, FirstYes, Posted, SharedKeys, sign_for
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.journal import Change, Claim, Header, encode_page
from peewit_federation.appointment.mailbox import give_leave
from peewit_federation.appointment.messages import CONFIRMED, Accept, Confirm, Offer, practice_data, sign_message
from peewit_federation.appointment.notes import MOVE, Note, sign_note
from peewit_federation.appointment.queue_api import Draw, Place
from peewit_federation.appointment.request import Request, Wishes, claim_hash, claim_link
from peewit_federation.charter_file import parse_charter
from peewit_federation.draw.api import CODE, Conditions, DrawAnswer, DrawAsk, TokenAsk, code_at
from peewit_federation.draw.hashes import Person, data_hash, request_hash
from peewit_federation.draw.tickets import Ticket
from peewit_federation.draw.vrf import VrfKey
from peewit_federation.gossip.feed import Answer, Ask, Cursor, HeadItem, ViewItem
from peewit_federation.gossip.marks import mark_of
from peewit_federation.gossip.views import OPERATORS, Line, View, ViewList, sign_view
from peewit_federation.keys import PublicKey, SigningKey, key_id, sha256
from peewit_federation.log.checkpoint import (
    Checkpoint,
    cosign,
    log_key,
    origin_hash,
    origin_of,
    sign_checkpoint,
    witness_key,
)
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.note import ED25519, VerifierKey
from peewit_federation.log.proof_file import LogProof
from peewit_federation.log.proofs import consistency_proof, inclusion_proof, leaf_source
from peewit_federation.log.tiles import encode_bundle
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.carried import (
    Close,
    Device,
    ForkRevocation,
    evidence_of,
    sign_close,
    sign_device,
)
from peewit_federation.statements.draw import DrawKey, TokenCount, TokenKey
from peewit_federation.statements.mediator import Catchment, Issuer, Provider, Revocation
from peewit_federation.statements.operator import Admission, Carried, CharterNotice, Node, Withdrawal


def seed(word: str) -> bytes:
    return sha256(b"peewit example " + word.encode())


def key(word: str) -> SigningKey:
    return SigningKey(seed(word))


NAMES = ("north", "west", "south", "east")
MODULUS = sha256(b"an example of a modulus, not a product of primes") * 8
SIGNUP = "ABCDE-FGHJK-MNPQR-STVWX"
TIME_S = 1_767_225_600  # 2026-01-01T00:00:00Z


def card(name: str, prefix: str) -> Card:
    witness = witness_key(f"{name}.example/witness", key(f"{name} witness").public)
    offline = VerifierKey(f"{name}/charter", ED25519, PublicKey(key(f"{name} charter").public))
    return Card(name, f"https://{name}.example", (prefix,), log_key(key(f"{name} log").public), witness, offline)


def examples() -> dict[str, bytes]:
    """By name: bytes as they travel, or text."""
    root, log = key("district-mitte root"), key("district-mitte device")
    mediator = key_id(root.public)
    north = key("north log")
    area = Catchment(
        1, 0, TIME_S, TIME_S + 34_560_000, (), seed("area")[:16], seed("salt")[:16],
        ((TIME_S, xwing_public(seed("area key"))),), ("10115", "10117"), ("flu",),
        (origin_hash(origin_of(north.public)),), ("over80", "all"),
    )  # fmt: skip
    provider = Provider(
        1, 0, TIME_S, TIME_S + 34_560_000, (), key("clinic-a").public, xwing_public(seed("clinic-a key")),
        (area.area,), ("flu",), seed("commitment"),
    )  # fmt: skip
    revocation = Revocation(Provider.KIND, provider.subject, 1, seed("nonce")[:16])
    issuer = Issuer(1, 0, TIME_S, TIME_S + 2_592_000, (), 8, key("issuer").public)
    entries = [area.encode(), provider.encode(), revocation.encode()]
    leaves = [leaf_hash(entry) for entry in entries]
    name = log_key(log.public).name
    head = sign_checkpoint(Checkpoint(name, 3, root_of(leaves)), log)
    for witness in NAMES[:3]:
        keyname = f"{witness}.example/witness"
        head = head.with_cosignature(keyname, cosign(head.checkpoint, keyname, key(f"{witness} witness"), TIME_S))
    other = [*leaves[:2], leaf_hash(issuer.encode()), leaf_hash(b"")]
    forked = sign_checkpoint(Checkpoint(name, 4, root_of(other)), log)
    evidence = evidence_of(log.public, head, forked, root_of(other[:3]), consistency_proof(3, 4, leaf_source(other)))
    bare = sign_checkpoint(head.checkpoint, log).encode()
    proof = LogProof(2, tuple(inclusion_proof(2, 3, leaf_source(leaves))), bare, entries[2])
    device = sign_device(Device(mediator, root.public, log.public, xwing_public(seed("device key"))), root, log)
    close = sign_close(Close(mediator, root.public, origin_hash(name), 2, root_of(leaves[:2])), root)
    operators = [log_key(key(f"{n} log").public) for n in NAMES]
    lines = ViewList(
        [Line(OPERATORS, origin_hash(o.name), 7, seed(o.name)) for o in operators]
        + [Line(mediator, origin_hash(name), 3, head.root), Line(seed("another"), seed("forked log"))]
    )
    view = sign_view(View(seed("epoch")[:8], 12, TIME_S, len(lines.lines), lines.root), key("north witness"))
    cursor = Cursor(seed("epoch")[:8], 12)
    from peewit_federation import cbor

    charter = compose_charter(
        "example", [card(n, str(i + 1)) for i, n in enumerate(NAMES)], 3, draw=usual_draw(NAMES)
    )  # fmt: skip
    schedule = parse_charter(charter.encode()).schedule
    assert schedule is not None
    seats = schedule.seats_of(2966)
    vrf = [VrfKey(seed(f"draw key {place}")) for place in range(len(seats.committee.sets))]
    publics = tuple(key.public for key in vrf)
    person = Person("Muster", "Erika", date(1940, 8, 12))
    request = request_hash(
        [seed("area")], key_id(key("request").public), claim_hash(seed("claim")), data_hash(person, seed("nonce"))
    )
    ticket = Ticket(tuple(key.prove(request) for key in vrf))
    asked = Request(
        ((mediator, area.area),), data_hash(person, seed("nonce")), key("request").public, 2966,
        ((seats.origins[0], MODULUS),), ticket.encode(), 1, claim_hash(seed("claim")), key_id(key("mailbox").public),
        seats.origins[:2], (seed("sealed wishes") * 163 + bytes(16),), "over80",
    )  # fmt: skip
    offer = Offer(
        request, mediator, ((seed("slot")[:16], TIME_S + 86_400, 10, "flu"),), TIME_S + 3600,
        practice_data({"name": "clinic-a", "street": "Example Street 1"}), seed("commitment salt"),
        xwing_public(seed("offer key")), key_id(key("offer mailbox").public), seats.origins[:2],
        give_leave(key("offer mailbox"), key_id(key("writer").public), TIME_S + 3600),
    )  # fmt: skip
    return {
        "vkey of a log": str(log_key(log.public)).encode(),
        "vkey of a witness": str(witness_key("north.example/witness", key("north witness").public)).encode(),
        "checkpoint": head.encode(),
        "tlog-proof": proof.encode(),
        "entry bundle": encode_bundle([b"abc", b"d"]),
        "node": Node("https://north.example", key("north witness").public, (1,)).encode(),
        "admit-mediator": Admission(mediator, (root.public,), ("10", "12"), ("flu",)).encode(),
        "withdraw-mediator": Withdrawal(mediator).encode(),
        "token key": TokenKey(2966, MODULUS, "over80").encode(),
        "draw key": DrawKey(2966, seats.digest, 0, publics[0]).encode(),
        "token count": TokenCount(2966, 50, "over80").encode(),
        "charter notice": CharterNotice(1, sha256(charter.encode())).encode(),
        "carried": Carried(close).encode(),
        "catchment": entries[0],
        "provider": entries[1],
        "issuer": issuer.encode(),
        "revocation": entries[2],
        "device": device,
        "close": close,
        "evidence": evidence.encode(),
        "fork-revocation": ForkRevocation(log.public, proof.encode()).encode(),
        "view": view,
        "list behind a view": lines.encode(),
        "range of a view": cbor.encode(lines.range(mediator).value()),
        "ask, idle": Ask(cursor, mark_of(b"root")).encode(),
        "answer, idle": Answer(cursor, same=True).encode(),
        "answer with marks": Answer(cursor, False, (), mark_of(b"log") + mark_of(b"view", view)).encode(),
        "ask for what is wanted": Ask(cursor, mark_of(b"root"), bytes(4), (), (mark_of(b"view", view),)).encode(),
        "answer with news": Answer(cursor, False, (HeadItem(head.encode()), ViewItem(view))).encode(),
        "append": Append(2, encode_bundle(entries[2:]), bare).encode(),
        "client answer": ClientAnswer(
            (head.encode(),), (device,), ((0, 2, entries[2], tuple(inclusion_proof(2, 3, leaf_source(leaves)))),)
        ).encode(),
        "conditions of admission": Conditions(CODE, 20, 2966, ("", "over80")).encode(),
        "signup code at a node": code_at(SIGNUP, seats.origins[0]),
        "token ask": TokenAsk(2966, "over80", MODULUS[:-1] + b"\0", CODE, code_at(SIGNUP, seats.origins[0])).encode(),
        "request hash": request,
        "draw ask": DrawAsk(request, 2966, "over80", ((seats.origins[0], MODULUS),)).encode(),
        "draw answer": DrawAnswer(((0, ticket.proofs[0]), (2, ticket.proofs[2]))).encode(),
        "ticket": ticket.encode(),
        "priority": ticket.priority(request, publics),
        "envelope": Envelope(
            "POST",
            "/v1/queue/draw",
            seats.origins[0],
            1000 * TIME_S,
            seed("nonce")[:16],
            key("clinic-a").public,
            Draw(Place(mediator, area.area), 5, ((seed("passed over"), 1),)).encode(),
        ).sign(key("clinic-a")),
        "journal claim": Claim(
            3, seed("device")[:16], (seats.origins[:3], seats.origins[1:4]), 2, seed("seal")[:16]
        ).encode(),
        "journal write": Change(
            3,
            seed("device")[:16],
            7,
            seed("head 7"),
            8,
            seed("head 8"),
            ((seed("tag 1")[:16], seed("sealed") * 5 + bytes(8)), (seed("tag 2")[:16], b"")),
        ).encode(),
        "journal page": encode_page(
            Header(3, seed("device")[:16], 3, 8, seed("head 8"), (seats.origins[:3],), 2, seed("seal")[:16]),
            ((seed("tag 1")[:16], seed("sealed") * 5 + bytes(8)),),
        ),
        "leave": give_leave(key("mailbox"), key_id(key("writer").public), TIME_S),
        "request": asked.sign(key("request")),
        "wishes": Wishes(
            xwing_public(seed("reply key")),
            key_id(key("writer").public),
            ("flu",),
            ((20_454, 20_460),),
            ((8, 12),),
            1,
            ("de", "tr"),
            "80-89",
        ).encode(),
        "offer": sign_message(offer, key("clinic-a")),
        "accept": Accept(
            request,
            offer.slots[0][0],
            "Muster",
            "Erika",
            "1940-08-12",
            seed("nonce"),
            claim_link(seed("claim"), 0),
            xwing_public(seed("last key")),
            key_id(key("last mailbox").public),
            asked.mailbox_nodes,
            give_leave(key("last mailbox"), provider.subject, TIME_S),
        ).encode(),
        "confirm": sign_message(Confirm(request, offer.slots[0][0], CONFIRMED, TIME_S + 86_400, 10), key("clinic-a")),
        "note": sign_note(
            Note(request, offer.slots[0][0], TIME_S, MOVE, "the morning is cancelled", b"", TIME_S + 90_000, 10, "flu"),
            key("clinic-a"),
        ),
        "application": sign_for(
            Application(
                mediator,
                key("clinic-a").public,
                xwing_public(seed("clinic-a encryption")),
                (area.area,),
                ("flu",),
                offer.data,
                "ABCDE-FGHJK",
                TIME_S,
            ),
            key("clinic-a"),
        ),
        "decision": sign_for(
            Decision(key_id(key("clinic-a").public), 1, "", offer.data, offer.salt, ((area.area, seed("area key")),)),
            log,
        ),
        "shared keys": sign_for(SharedKeys(((area.area, seed("area key")),)), log),
        "first yes": sign_for(FirstYes((seed("letter of an application"),)), log),
        "letter": Posted(
            ((key_id(xwing_public(seed("device key"))), seed("sealed letter") * 163 + bytes(16)),)
        ).encode(),
        "charter": charter.encode(),
    }


TEXTS = ("vkey of a log", "vkey of a witness", "checkpoint", "tlog-proof", "charter")


def shown(name: str, data: bytes) -> str:
    """As docs/protocol.md shows it: text, or hexadecimal with long keys cut."""
    if name in TEXTS:
        return "\n".join(
            line if len(line) < 150 else line[:140] + "…" for line in data.decode().rstrip("\n").split("\n")
        )
    text = data.hex()
    if len(text) > 1024:
        text = f"{text[:704]} … {text[-192:]}"
    rows = [text[at : at + 96] for at in range(0, len(text), 96)]
    return "\n".join([*rows, f"({len(data)} bytes)"])
