"""Every parser: whatever comes in, either a value comes out or one of our own errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from peewit_federation import cbor
from peewit_federation.api import Answer as ClientAnswer
from peewit_federation.api import Append
from peewit_federation.appointment import notes
from peewit_federation.appointment.applications import (
    Application,
    Decision,
    FirstYes,
    Posted,
    SharedKeys,
    read_application,
    read_decision,
    read_first_yes,
    read_shared,
    sign_for,
)
from peewit_federation.appointment.envelope import Envelope, open_envelope
from peewit_federation.appointment.mailbox import Put, Terms, check_leave, give_leave, read_digests, read_messages
from peewit_federation.appointment.messages import (
    Accept,
    Confirm,
    Offer,
    commitment,
    open_message,
    practice_data,
    read_practice_data,
    sign_message,
)
from peewit_federation.appointment.queue_api import (
    Draw,
    Place,
    decode_claim,
    decode_offered,
    encode_claim,
    encode_offered,
)
from peewit_federation.appointment.request import Request, Wishes, claim_hash, claim_link, open_request
from peewit_federation.appointment.spoken import (
    CLAIM_PATH,
    SAID,
    VERSION,
    decode_claimed,
    decode_standing,
    encode_shown,
    encode_standing,
    shown_claim,
    shown_version,
)
from peewit_federation.charter_file import parse_charter
from peewit_federation.cose import Sign1
from peewit_federation.draw.api import Conditions, DrawAnswer, DrawAsk, TokenAsk
from peewit_federation.draw.tickets import Ticket
from peewit_federation.errors import PeewitError
from peewit_federation.gossip.feed import Answer, Ask, Cursor, HeadItem, ViewItem
from peewit_federation.gossip.views import Range, ViewList, open_view, sign_view
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, open_head
from peewit_federation.log.note import Note, VerifierKey
from peewit_federation.log.policy import parse_policy
from peewit_federation.log.proof_file import LogProof
from peewit_federation.log.tiles import Tile, encode_bundle, split_bundle
from peewit_federation.oblivious import bhttp
from peewit_federation.oblivious.encapsulation import GatewayKey, seal_request
from peewit_federation.places import Places
from peewit_federation.statements.carried import Close as CloseStatement
from peewit_federation.statements.carried import open_carried, sign_close
from peewit_federation.statements.kinds import ALL_KINDS, read_entry
from tests.federation.test_charter import charter, signed, text
from tests.federation.test_gossip import POLICY, WITNESSES, a_head, lines, view_of
from tests.federation.test_log_formats import SPEC_KEY, SPEC_NOTE, TORCHWOOD_NOTE
from tests.federation.test_policy import NESTED
from tests.federation.test_statements import SAMPLES, forked
from tests.federation_kit import TestMediator, seed

ROOT = SigningKey(seed("root"))
VIEWS = ViewList(lines(3, 2))
EXCHANGE = Ask(Cursor(bytes(8), 7), bytes(16), bytes(4), (HeadItem(a_head(3), (b"d",), b"q"), ViewItem(b"v")))
ENVELOPE = Envelope("POST", "/v1/queue/draw", bytes(32), 1_800_000_000_000, bytes(16), ROOT.public, b"body")
REQUEST = Request(
    ((bytes(32), bytes(16)),), bytes(32), ROOT.public, 7, ((bytes(32), bytes(256)),), bytes(160), 1, bytes(32),
    bytes(32), (bytes(32),), (bytes(5232),), "over80",
)  # fmt: skip
SECRET = bytes(31) + b"s"
CLAIMABLE = replace(REQUEST, claim=claim_hash(SECRET))
CLAIM_PLACE = Place(*CLAIMABLE.areas[0])
CLAIM_ENVELOPE = replace(
    ENVELOPE, path=CLAIM_PATH, body=encode_claim(CLAIM_PLACE, CLAIMABLE.name, claim_link(SECRET, 0))
)
WISHES = Wishes(bytes(1216), bytes(32), ("flu",), ((1, 2),), ((8, 12),), 1, ("de", "en"), "80-120")
PLACE = Place(bytes(32), bytes(16))
OFFER = Offer(
    bytes(32), bytes(32), ((bytes(16), 5, 10, "flu"),), 9, b"data", bytes(32), bytes(1216), bytes(32), (bytes(32),), b"l"
)  # fmt: skip
ACCEPT = Accept(
    bytes(32), bytes(16), "Muster", "Erika", "1940-08-12", bytes(32), bytes(32), bytes(1216), bytes(32), (bytes(32),), b"l"
)  # fmt: skip
CONFIRM = Confirm(bytes(32), bytes(16), 1, 5, 10)
PLACES = "postcode,place,district,state_code,state,latitude,longitude\n10115,Mitte,Mitte,BE,Berlin,52.5,13.3\n"


def as_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", errors="replace"))


NOTE = notes.Note(bytes(32), bytes(16), 7, notes.WORDS, "a word", bytes(32))
APPLICATION = Application(
    bytes(32), ROOT.public, bytes(1216), (bytes(16),), ("flu",), practice_data({"name": "clinic-a"}), "CODE"
)
DECISION = Decision(bytes(32), 1, "", b"data", bytes(32), ((bytes(16), bytes(32)),))
PARSERS: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "cbor": (cbor.decode, [s.encode() for s in SAMPLES]),
    "note": (Note.parse, [SPEC_NOTE.encode(), TORCHWOOD_NOTE.encode()]),
    "checkpoint": (as_text(Checkpoint.parse), [TORCHWOOD_NOTE.split("\n\n")[0].encode() + b"\n"]),
    "vkey": (as_text(VerifierKey.parse), [SPEC_KEY.encode()]),
    "head": (
        lambda data: open_head(data, log_key(SigningKey(seed("log")).public), POLICY.witness_keys),
        [a_head(3)],
    ),
    "tile path": (as_text(Tile.parse), [b"tile/0/x001/234.p/17", b"tile/entries/000"]),
    "bundle": (partial(split_bundle, count=3), [encode_bundle([b"a", b"", b"c" * 300])]),
    "proof": (LogProof.parse, [LogProof(4, (bytes(32),), TORCHWOOD_NOTE.encode(), b"x").encode()]),
    "policy": (as_text(parse_policy), [NESTED.encode()]),
    "charter": (parse_charter, [text().encode(), signed(charter(2), "north").encode()]),
    "sign1": (Sign1.parse, [TestMediator("m").device()]),
    "carried": (
        open_carried,
        [
            TestMediator("m").device(),
            forked(ROOT, 2, 5).encode(),
            sign_close(CloseStatement(bytes(32), ROOT.public, bytes(32), 5, bytes(32)), ROOT),
        ],
    ),
    "entry": (lambda data: read_entry(data, ALL_KINDS), [s.encode() for s in SAMPLES]),
    "ask": (Ask.decode, [EXCHANGE.encode()]),
    "answer": (Answer.decode, [Answer(Cursor(bytes(8), 7), False, EXCHANGE.items, bytes(32)).encode()]),
    "view": (lambda data: open_view(data, POLICY), [sign_view(view_of(VIEWS), WITNESSES[0])]),
    "list": (lambda data: ViewList.decode(data, VIEWS.root), [VIEWS.encode()]),
    "range": (
        lambda data: Range.of(cbor.decode(data), 10).open(seed("m", 1), view_of(VIEWS)),
        [cbor.encode(VIEWS.range(seed("m", 1)).value())],
    ),
    "append": (Append.decode, [Append(3, b"bundle", b"note", b"device").encode()]),
    "client answer": (
        lambda data: ClientAnswer.decode(data).open(POLICY, quorum=False),
        [ClientAnswer((a_head(3),), (TestMediator("m").device(),), ((0, 1, b"e", (bytes(32),)),)).encode()],
    ),
    "places": (as_text(Places.parse), [PLACES.encode()]),
    "token ask": (TokenAsk.decode, [TokenAsk(7, "over80", bytes(256), 1, bytes(32)).encode()]),
    "draw ask": (DrawAsk.decode, [DrawAsk(bytes(32), 7, "", ((bytes(32), bytes(256)),)).encode()]),
    "draw answer": (DrawAnswer.decode, [DrawAnswer(((0, bytes(80)), (3, bytes(80)))).encode()]),
    "conditions of admission": (Conditions.decode, [Conditions(2, 20, -1, ("", "over80")).encode()]),
    "ticket": (Ticket.decode, [bytes(160)]),
    "envelope": (open_envelope, [ENVELOPE.sign(ROOT)]),
    "terms": (Terms.decode, [Terms(1_800_000_000, True).encode()]),
    "put": (Put.decode, [Put(b"leave", b"message").encode()]),
    "leave": (
        lambda data: check_leave(data, ROOT.public, bytes(32), 5.0),
        [give_leave(ROOT, bytes(32), 10)],
    ),
    "mailbox": (read_messages, [cbor.encode([b"a", b"b"])]),
    "digests": (read_digests, [cbor.encode([bytes(32)])]),
    "request": (open_request, [REQUEST.sign(ROOT)]),
    "wishes": (Wishes.decode, [WISHES.encode()]),
    "how a request stands": (
        decode_standing,
        [encode_standing([(bytes(32), 3, 3), (bytes(31) + b"1", 0, 0)], (SAID, b"x")), encode_standing([], None)],
    ),
    "claimed": (decode_claimed, [cbor.encode(encode_shown((VERSION, b"x"))), cbor.encode(encode_shown(None))]),
    "shown claim": (lambda data: shown_claim(data, CLAIMABLE), [CLAIM_ENVELOPE.sign(ROOT)]),
    "shown version": (lambda data: shown_version(data, REQUEST), [REQUEST.sign(ROOT)]),
    "draw from a queue": (Draw.decode, [Draw(PLACE, 5, ((bytes(32), 1),), anew=True).encode()]),
    "told of an offer": (decode_offered, [encode_offered(PLACE, bytes(32), 5)]),
    "claim": (decode_claim, [encode_claim(PLACE, bytes(32), bytes(32))]),
    "offer": (lambda data: open_message(data, Offer), [sign_message(OFFER, ROOT)]),
    "accept": (Accept.decode, [ACCEPT.encode()]),
    "confirm": (lambda data: open_message(data, Confirm), [sign_message(CONFIRM, ROOT)]),
    "binary request": (bhttp.Request.decode, [bhttp.Request("POST", "/v1/draw", b"x", fields=(("a", "b"),)).encode()]),
    "binary response": (bhttp.Response.decode, [bhttp.Response(200, b"x", (("a", "b"),)).encode()]),
    "gateway": (GatewayKey(bytes(32)).open, [seal_request(GatewayKey(bytes(32)).public, b"x", seed("e"))[0]]),
    "answer through a relay": (seal_request(GatewayKey(bytes(32)).public, b"x", seed("e"))[1].open, [bytes(60)]),
    "practice's note": (lambda data: notes.read_practice_note(data, ROOT.public), [notes.sign_note(NOTE, ROOT)]),
    "user's note": (lambda data: notes.read_user_note(data, bytes(32), bytes(32)), [NOTE.encode()]),
    "application": (read_application, [sign_for(APPLICATION, ROOT)]),
    "decision": (lambda data: read_decision(data, ROOT.public), [sign_for(DECISION, ROOT)]),
    "shared keys": (lambda data: read_shared(data, ROOT.public), [sign_for(SharedKeys(DECISION.keys), ROOT)]),
    "first yes": (lambda data: read_first_yes(data, ROOT.public), [sign_for(FirstYes((bytes(32),)), ROOT)]),
    "letter": (Posted.decode, [Posted(((bytes(32), bytes(4096 + 1136)),)).encode()]),
    "practice data": (
        lambda data: read_practice_data(data, bytes(32), commitment(bytes(32), data)),
        [practice_data({"name": "clinic-a"})],
    ),
}
INTERESTING = [
    b"",
    b"\x00",
    b"\xff",
    b"\x9f",
    b"\xbf",
    b"\xf5",
    b"\xf6",
    b"\x1b" + b"\xff" * 8,
    b"\n\n",
    "—".encode(),
    b" ",
]


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_never_raises_anything_but_its_own_error(name: str) -> None:
    parse, samples = PARSERS[name]
    random = Random(name)
    for round_ in range(1500):
        data = bytearray(random.choice(samples) if round_ % 10 else random.randbytes(random.randint(0, 80)))
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(data) + 1)
            match random.randrange(4):
                case 0 if at < len(data):
                    data[at] = random.randrange(256)
                case 1:
                    data[at:at] = random.choice(INTERESTING)
                case 2:
                    del data[at : at + random.randint(1, 8)]
                case _:
                    data[at:] = data[random.randrange(len(data) + 1) :]
        try:
            parse(bytes(data))
        except PeewitError as error:
            assert len(str(error)) < 1000


def test_the_real_table_of_postcodes_is_read_and_a_bad_line_is_named() -> None:
    table = (Path(__file__).parents[2] / "examples" / "data" / "postcodes-de.csv").read_text(encoding="utf-8")
    places = Places.parse(table)
    assert len(places.by_postcode) == 8154
    near = places.within("10115", 5)
    assert next(iter(near)) == "10115"
    assert near == {code: km for code, km in places.within("10115", 20).items() if km <= 5}
    rows = table.split("\n")
    rows[4710] = rows[4710].replace(rows[4710].split(",")[0], "1011x")
    with pytest.raises(PeewitError, match="line 4711"):
        Places.parse("\n".join(rows))
