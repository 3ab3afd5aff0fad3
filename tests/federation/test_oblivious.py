"""Oblivious HTTP against the vectors of RFC 9458 (appendix A) and RFC 9292 (section 5), and against forgers."""

from __future__ import annotations

import pytest

from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.oblivious.bhttp import PADDED_BYTES, Request, Response, pad
from peewit_federation.oblivious.encapsulation import AES, Answering, GatewayKey, seal_request
from tests.federation_kit import seed

# RFC 9458, appendix A
SECRET = bytes.fromhex("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a")
EPHEMERAL = bytes.fromhex("bc51d5e930bda26589890ac7032f70ad12e4ecb37abb1b65b1256c9c48999c73")
CONFIGURATION = "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003"
PLAIN_REQUEST = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
SEALED_REQUEST = bytes.fromhex(
    "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad1"
    "9dec96c208b4726374e469135906992e1268c594d2a10c695d858c40a026e796"
    "5e7d86b83dd440b2c0185204b4d63525"
)
PLAIN_RESPONSE = bytes.fromhex("0140c8")
RESPONSE_NONCE = bytes.fromhex("c789e7151fcba46158ca84b04464910d")
SEALED_RESPONSE = bytes.fromhex("c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd")
# RFC 9292, section 5.1: a request of known length
HELLO = bytes.fromhex(
    "0003474554056874747073000a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33206c69626375726c"
    "2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c652e636f6d0f61"
    "63636570742d6c616e677561676506656e2c206d690000"
)


def test_the_exchange_of_rfc_9458_is_ours_byte_for_byte() -> None:
    key = GatewayKey(SECRET)
    assert key.configuration().hex() == CONFIGURATION
    sealed, asking = seal_request(key.public, PLAIN_REQUEST, EPHEMERAL, aead=AES)
    assert sealed == SEALED_REQUEST
    plain, answering = key.open(SEALED_REQUEST)
    assert plain == PLAIN_REQUEST
    assert answering.seal(PLAIN_RESPONSE, RESPONSE_NONCE) == SEALED_RESPONSE
    assert asking.open(SEALED_RESPONSE) == PLAIN_RESPONSE
    assert Request.decode(plain) == Request("GET", "/", b"", "https", "example.com")
    assert Response.decode(PLAIN_RESPONSE) == Response(200)
    assert (Request("GET", "/", b"", "https", "example.com").encode(), Response(200).encode()) == (
        PLAIN_REQUEST,
        PLAIN_RESPONSE,
    )


def test_the_request_of_rfc_9292_is_read() -> None:
    request = Request.decode(HELLO)
    assert (request.method, request.scheme, request.authority, request.path) == ("GET", "https", "", "/hello.txt")
    assert dict(request.fields)["host"] == "www.example.com"
    assert dict(request.fields)["accept-language"] == "en, mi"
    assert request.encode() + bytes(2) == HELLO, "its empty content and trailers may be left out"


def test_informational_responses_are_passed_over_and_padding_is_zeros() -> None:
    early = b"\x01" + b"\x40\x66" + b"\x00" + b"\x40\xc8" + b"\x00" + b"\x02ok" + b"\x00"
    assert Response.decode(early) == Response(200, b"ok")
    assert Response.decode(early + bytes(100)) == Response(200, b"ok")
    with pytest.raises(MalformedError, match="other than zeros"):
        Response.decode(early + bytes(7) + b"x")
    assert Response.decode(b"\x01" + (b"\x40\x67\x00" * 2) + b"\x40\xc8").status == 200


@pytest.mark.parametrize("size", [0, 1, 900, 5000, 70_000, 300_000])
def test_messages_come_in_few_sizes(size: int) -> None:
    message = Request("POST", "/v1/requests", bytes(size)).encode()
    padded = pad(message)
    assert len(padded) in PADDED_BYTES
    assert Request.decode(padded) == Request.decode(message)


def test_nobody_else_opens_a_request_or_an_answer_and_nothing_can_be_changed() -> None:
    key, request = GatewayKey.of(seed("node")), Request("POST", "/v1/requests", b"body").encode()
    sealed, asking = seal_request(key.public, request, seed("ephemeral"))
    assert key.open(sealed)[0] == request
    with pytest.raises(ForgeryError, match="not sealed for this node"):
        GatewayKey.of(seed("another node")).open(sealed)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises((ForgeryError, MalformedError)):
            key.open(changed)
    _, answering = key.open(sealed)
    answer = answering.seal(b"answer", seed("nonce"))
    assert asking.open(answer) == b"answer"
    other = Answering(asking.aead, asking.encapsulated, seed("other"))
    for wrong, what in ((asking, answer[:-1] + b"x"), (asking, b""), (asking, answer[:40]), (other, answer)):
        with pytest.raises(ForgeryError, match="not sealed for this request"):
            wrong.open(what)
    _, second = seal_request(key.public, request, seed("another ephemeral"))
    with pytest.raises(ForgeryError):
        second.open(answer)


def test_bad_keys_and_messages_are_refused() -> None:
    for bad in (b"", bytes(31), bytes(32)):
        with pytest.raises(MalformedError):
            seal_request(bad, b"", seed("ephemeral"))
    for data in (b"", b"\x02", b"\x00\x03GE", b"\x00\x01\xff\x00\x00\x00", b"\xc0" + bytes(7) + b"\x02"):
        with pytest.raises(MalformedError):
            Request.decode(data)
    for data in (b"", b"\x00", b"\x01\x00", b"\x01\x40\x66", b"\x01\x42\x58"):
        with pytest.raises(MalformedError):
            Response.decode(data)
    with pytest.raises(LimitError, match="more than 100 fields"):
        Response.decode(b"\x01\x40\xc8" + b"\x40\xca" + b"\x00\x00" * 101)
