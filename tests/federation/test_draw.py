"""The draw: blind signatures, the verifiable random function, tickets and hashes (design 4.5)."""

from __future__ import annotations

import json
import unicodedata
from datetime import date, datetime
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from peewit_federation.draw import blind_rsa, tickets, vrf
from peewit_federation.draw.blind_rsa import Blinded, TokenKey, TokenPublicKey
from peewit_federation.draw.hashes import Person, data_hash, request_hash
from peewit_federation.draw.tickets import Committee, Ticket, join, prove
from peewit_federation.draw.vrf import VrfKey, output, verify
from peewit_federation.errors import ForgeryError, MalformedError
from tests.federation_kit import seed

RFC9474 = {
    name: value if name == "name" else bytes.fromhex(value)
    for name, value in json.loads((Path(__file__).parent / "rfc9474.json").read_text()).items()
}
RFC9381 = json.loads((Path(__file__).parent / "rfc9381.json").read_text())


def number(name: str) -> int:
    return int.from_bytes(RFC9474[name], "big")


@pytest.fixture(scope="module")
def key() -> TokenKey:
    made = rsa.generate_private_key(65_537, 2048).private_numbers()
    return TokenKey(made.p, made.q)


# Blind RSA (RFC 9474)


def test_the_vector_of_rfc_9474_for_the_deterministic_variant() -> None:
    signer = TokenKey(number("p"), number("q"))
    public = TokenPublicKey.decode(RFC9474["n"])
    assert signer.public == public
    factor = pow(number("inv"), -1, number("n")).to_bytes(512, "big")
    blinded = public.blind(RFC9474["prepared_msg"], RFC9474["salt"], factor)
    assert blinded.data == RFC9474["blinded_msg"]
    assert blinded.inverse == number("inv")
    assert signer.blind_sign(blinded.data, Random(1).randbytes(528)) == RFC9474["blind_sig"]
    assert public.finalize(RFC9474["prepared_msg"], RFC9474["blind_sig"], blinded) == RFC9474["sig"]
    assert public.verifies(RFC9474["msg"], RFC9474["sig"])
    assert not public.verifies(RFC9474["msg"] + b"x", RFC9474["sig"])


def test_what_a_signer_sees_says_nothing_of_what_it_signed(key: TokenKey) -> None:
    """The same message, blinded twice, looks like two unrelated numbers; any message fits any of them."""
    random, public = Random(2), key.public
    one = public.blind(b"H", random.randbytes(48), random.randbytes(272))
    two = public.blind(b"H", random.randbytes(48), random.randbytes(272))
    assert one.data != two.data
    signatures = [
        public.finalize(b"H", key.blind_sign(blinded.data, random.randbytes(272)), blinded) for blinded in (one, two)
    ]
    assert all(public.verifies(b"H", signature) for signature in signatures)
    # For every pair of a seen number and another signature there is a factor that would have led from one to the other.
    for blinded, signature in ((one, signatures[1]), (two, signatures[0])):
        seen = int.from_bytes(key.blind_sign(blinded.data, random.randbytes(272)), "big")
        inverse = int.from_bytes(signature, "big") * pow(seen, -1, public.modulus) % public.modulus
        assert public.finalize(b"H", seen.to_bytes(256, "big"), Blinded(blinded.data, inverse)) == signature


def test_a_signer_that_answers_with_something_else_is_found_out(key: TokenKey) -> None:
    random, public = Random(3), key.public
    blinded = public.blind(b"H", random.randbytes(48), random.randbytes(272))
    good = key.blind_sign(blinded.data, random.randbytes(272))
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[1:], b"", bytes(256)):
        with pytest.raises(ForgeryError):
            public.finalize(b"H", bad, blinded)
    with pytest.raises(ForgeryError):
        public.finalize(b"another", good, blinded)


def test_the_factor_that_hides_a_private_operation_does_not_change_its_result(key: TokenKey) -> None:
    blinded = key.public.blind(b"H", bytes(48), seed("factor") * 9)
    assert len({key.blind_sign(blinded.data, seed("hide", n) * 9) for n in range(5)}) == 1


def test_a_faulty_private_operation_never_leaves(key: TokenKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """One signature that is right modulo one prime only would give the modulus' factors away."""
    blinded = key.public.blind(b"H", bytes(48), seed("factor") * 9)
    real = TokenKey._private
    monkeypatch.setattr(TokenKey, "_private", lambda self, value: real(self, value) + self._q)
    with pytest.raises(RuntimeError, match="kept back"):
        key.blind_sign(blinded.data, seed("hide") * 9)


def test_a_private_operation_never_meets_the_number_that_was_sent(
    key: TokenKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    blinded = key.public.blind(b"H", bytes(48), seed("factor") * 9)
    met: list[int] = []
    real = TokenKey._private

    def watched(self: TokenKey, value: int) -> int:
        met.append(int(value))
        return int(real(self, value))

    monkeypatch.setattr(TokenKey, "_private", watched)
    for number in range(3):
        key.blind_sign(blinded.data, seed("hide", number) * 9)
    assert len({*met, int.from_bytes(blinded.data, "big")}) == 4


@pytest.mark.parametrize("factor", [b"", b"\x01", bytes(272), b"\x01" * 255])
def test_randomness_that_hides_nothing_is_refused(key: TokenKey, factor: bytes) -> None:
    with pytest.raises(MalformedError):
        key.public.blind(b"H", bytes(48), factor)
    with pytest.raises(MalformedError):
        key.blind_sign(b"\x01" * 256, factor)
    with pytest.raises(MalformedError):
        key.public.blind(b"H", bytes(47), seed("factor") * 9)


def test_keys_that_are_not_made_from_two_fitting_primes_are_refused(key: TokenKey) -> None:
    p, q = int(key._p), int(key._q)
    for one, other in ((p, p), (p, q + 2), (p * q, 1)):
        with pytest.raises(MalformedError):
            TokenKey(one, other)


@pytest.mark.parametrize("data", [b"", bytes(255), bytes(256), b"\xff" * 256, bytes(257), b"\x01" * 255, b"\x01" * 257])
def test_blinded_messages_that_are_no_numbers_below_the_modulus_are_refused(key: TokenKey, data: bytes) -> None:
    with pytest.raises(MalformedError):
        key.blind_sign(data, bytes(272))


@pytest.mark.parametrize("data", [b"", bytes(256), b"\xff" * 128, b"\xff" * 255 + b"\xfe", b"\x01" * 256])
def test_moduli_that_are_too_short_or_even_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        TokenPublicKey.decode(data)


def test_a_key_does_not_show_itself(key: TokenKey) -> None:
    assert repr(key) == "TokenKey(2048 bits)"
    assert "inverse" not in repr(key.public.blind(b"H", bytes(48), seed("factor") * 9))
    assert blind_rsa.EXPONENT == 65_537


# The verifiable random function (RFC 9381)


@pytest.mark.parametrize("vector", RFC9381)
def test_the_vectors_of_rfc_9381_for_edwards25519_try_and_increment(vector: dict[str, str]) -> None:
    secret, public, data, proof, beta = map(bytes.fromhex, vector.values())
    made = VrfKey(secret)
    assert made.public == public
    assert made.prove(data) == proof
    assert verify(made.public, data, proof) == beta
    assert output(proof) == beta


def test_no_other_proof_and_no_other_input_verifies() -> None:
    made, data = VrfKey(seed("vrf")), b"H"
    proof = made.prove(data)
    assert proof == made.prove(data), "a holder cannot choose between outputs"
    for at in range(80):
        with pytest.raises(ForgeryError):
            verify(made.public, data, proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :])
    with pytest.raises(ForgeryError):
        verify(made.public, b"other", proof)
    with pytest.raises(ForgeryError):
        verify(VrfKey(seed("other")).public, data, proof)
    larger = (int.from_bytes(proof[48:], "little") + vrf.ORDER).to_bytes(32, "little")
    with pytest.raises(ForgeryError, match="not reduced"):
        verify(made.public, data, proof[:48] + larger)


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        b"\xff" * 32,
    ],
)
def test_keys_and_proofs_of_small_order_or_off_the_curve_are_refused(point: bytes) -> None:
    made = VrfKey(seed("vrf"))
    proof = made.prove(b"H")
    with pytest.raises(ForgeryError):
        verify(point, b"H", proof)
    with pytest.raises(ForgeryError):
        verify(made.public, b"H", point + proof[32:])


# Tickets


def a_round(committee: Committee) -> tuple[list[VrfKey], dict[str, dict[int, VrfKey]]]:
    keys = [VrfKey(seed("round", index)) for index in range(len(committee.sets))]
    return keys, {name: {i: keys[i] for i in committee.held_by(name)} for name in committee.members}


@pytest.mark.parametrize(("n", "t", "count"), [(5, 3, 10), (4, 2, 4), (3, 2, 3), (1, 1, 1), (7, 4, 35)])
def test_any_t_members_hold_every_key_and_no_t_minus_one_do(n: int, t: int, count: int) -> None:
    committee = Committee(tuple(f"operator-{i}" for i in range(n)), t)
    assert len(committee.sets) == count
    everything = set(range(count))
    for some in combinations(committee.members, t):
        assert set().union(*(committee.held_by(name) for name in some)) == everything
    for few in combinations(committee.members, t - 1):
        assert set().union(*(committee.held_by(name) for name in few)) != everything
    for index in everything:
        assert len(committee.holders(index)) == n - t + 1


def test_whoever_answers_a_request_has_one_ticket_and_one_priority() -> None:
    committee = Committee(("a", "b", "c", "d", "e"), 3)
    keys, held = a_round(committee)
    publics = [key.public for key in keys]
    request = seed("H")
    found = {
        join(request, publics, [prove(request, held[name]) for name in some]).encode()
        for some in combinations(committee.members, 3)
    }
    assert len(found) == 1
    (data,) = found
    assert len(data) == 800
    ticket = Ticket.decode(data)
    outputs = [output(proof) for proof in ticket.proofs]
    assert ticket.priority(request, publics) == sha256(b"peewit priority v1" + b"".join(outputs)).digest()
    for index in range(10):
        other = [VrfKey(seed("other")) if at == index else key for at, key in enumerate(keys)]
        changed = Ticket(tuple(key.prove(request) for key in other))
        assert changed.priority(request, [key.public for key in other]) != ticket.priority(request, publics)
    with pytest.raises(ForgeryError):
        ticket.priority(seed("another H"), publics)
    with pytest.raises(ForgeryError):
        ticket.priority(request, publics[:-1])


def test_two_of_three_cannot_make_a_ticket_and_a_liar_among_four_does_not_spoil_it() -> None:
    committee = Committee(("a", "b", "c", "d", "e"), 3)
    keys, held = a_round(committee)
    publics, request = [key.public for key in keys], seed("H")
    parts = {name: prove(request, held[name]) for name in committee.members}
    with pytest.raises(ForgeryError, match=r"nobody proved keys 0 of 10"):
        join(request, publics, [parts["a"], parts["b"]])
    lies = {index: keys[0].prove(b"something else") for index in range(len(keys))}
    honest = join(request, publics, [parts["c"], parts["d"], parts["e"]])
    assert join(request, publics, [lies, parts["c"], parts["d"], parts["e"]]) == honest


def test_a_second_proof_by_a_holder_leads_to_the_same_priority() -> None:
    """Proofs are not unique, outputs are: nobody gains by choosing among proofs."""
    committee = Committee(("a",), 1)
    keys, _ = a_round(committee)
    honest = Ticket((keys[0].prove(seed("H")),))
    keys[0]._nonce_key = seed("another nonce")
    other = Ticket((keys[0].prove(seed("H")),))
    assert other != honest
    assert other.priority(seed("H"), [keys[0].public]) == honest.priority(seed("H"), [keys[0].public])


@pytest.mark.parametrize(("colluders", "median_share"), [(("a",), (0.3, 0.7)), (("a", "b"), (0.0, 0.1))])
def test_colluders_below_the_threshold_gain_nothing_by_choosing_an_h_and_as_many_as_the_threshold_do(
    colluders: tuple[str, ...], median_share: tuple[float, float]
) -> None:
    """In 41 rounds they take, of 24 `H`, the one that looks best under the keys that they hold."""
    committee, rounds, chances, shares = Committee(("a", "b", "c"), 2), 41, 24, []
    for number in range(rounds):
        keys = [VrfKey(seed("round", number, index)) for index in range(len(committee.sets))]
        known = {index: keys[index] for name in colluders for index in committee.held_by(name)}

        def forecast(request: bytes, known: dict[int, VrfKey] = known) -> bytes:
            parts = prove(request, known)
            return sha256(b"peewit priority v1" + b"".join(output(parts[index]) for index in sorted(parts))).digest()

        chosen = min((seed("H", number, chance) for chance in range(chances)), key=forecast)
        publics = [key.public for key in keys]
        priority = join(chosen, publics, [prove(chosen, dict(enumerate(keys)))]).priority(chosen, publics)
        shares.append(int.from_bytes(priority[:4], "big") / (1 << 32))  # of all people that come before
    least, most = median_share
    assert least <= sorted(shares)[rounds // 2] <= most


def test_a_round_without_keys_and_requests_that_are_no_hashes_are_refused() -> None:
    for request, keys in ((seed("H"), []), (b"H", [VrfKey(seed("k")).public])):
        with pytest.raises(MalformedError):
            join(request, keys, [])
        with pytest.raises(MalformedError):
            Ticket((bytes(80),)).priority(request, keys)


def test_a_part_of_another_type_is_passed_over() -> None:
    key = VrfKey(seed("k"))
    proof = key.prove(seed("H"))
    assert join(seed("H"), [key.public], [{0: None}, {0: proof}]).proofs == (proof,)  # type: ignore[dict-item]


@pytest.mark.parametrize("data", [b"", bytes(79), bytes(81), bytes(80 * 127)])
def test_tickets_of_another_length_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Ticket.decode(data)


def test_a_committee_is_named_once_and_has_a_threshold() -> None:
    for members, threshold in (((), 1), (("a", "a"), 1), (("a", "b"), 3), (("a",), 0), (tuple("abcdefghij"), 2)):
        with pytest.raises(MalformedError):
            Committee(members, threshold)
    assert tickets.MEMBERS_MAX == 9


# Hashes


def test_hashes_are_as_the_protocol_says() -> None:
    person, nonce = Person("Müller", "Änne", date(1950, 1, 2)), seed("nonce")
    body = bytes.fromhex("83674dc3bc6c6c657265c3846e6e656a313935302d30312d3032")
    data = sha256(b"peewit data hash v1" + nonce + body).digest()
    assert data_hash(person, nonce) == data
    area = seed("area")
    key = seed("key id")
    claim = seed("claim")
    found = request_hash([area], key, claim, data)
    assert found == sha256(b"peewit request v1" + b"\x81\x58\x20" + area + key + claim + data).digest()
    assert "Müller" not in repr(person)
    assert data_hash(Person("ﬁ", "", date(1950, 1, 2)), nonce) != data_hash(Person("fi", "", date(1950, 1, 2)), nonce)


def test_a_name_has_one_hash_however_it_was_encoded() -> None:
    composed = Person(unicodedata.normalize("NFC", "Müller"), "Änne  Marie", date(1950, 1, 2))
    typed = Person(unicodedata.normalize("NFD", " Müller"), "Änne Marie ", date(1950, 1, 2))
    nonce = seed("nonce")
    assert data_hash(composed, nonce) == data_hash(typed, nonce)
    assert data_hash(composed, nonce) != data_hash(composed, seed("other nonce"))
    assert data_hash(composed, nonce) != data_hash(Person("Müller", "Änne Marie", date(1950, 2, 1)), nonce)
    assert data_hash(Person("a", "bc", date(1950, 1, 2)), nonce) != data_hash(
        Person("ab", "c", date(1950, 1, 2)), nonce
    )


def test_persons_without_a_name_with_control_characters_or_huge_names_are_refused() -> None:
    for family, given in ((" ", ""), ("a\nb", "c"), ("a", "b\x00"), ("ü" * 161, "x"), ("a\u200b", ""), ("a", "\ud83d")):
        with pytest.raises(MalformedError):
            Person(family, given, date(1950, 1, 2))
    assert Person(unicodedata.normalize("NFD", "ü" * 160), "  x", date(1950, 1, 2)).given_name == "x"
    with pytest.raises(MalformedError):
        Person("a", "b", datetime(1950, 1, 2, 3))
    with pytest.raises(MalformedError):
        data_hash(Person("a", "b", date(1950, 1, 2)), bytes(31))


def test_a_request_is_for_one_to_three_areas_in_their_order() -> None:
    parts, areas = (seed("key id"), seed("claim"), seed("D")), [seed("area", number) for number in range(4)]
    assert request_hash(areas[:2], *parts) != request_hash(areas[1::-1], *parts)
    for place in range(3):
        other = [*parts]
        other[place] = seed("another")
        assert request_hash(areas[:1], *parts) != request_hash(areas[:1], *other)
    for bad in ([], areas, [areas[0], areas[0]], [b"short"]):
        with pytest.raises(MalformedError):
            request_hash(bad, *parts)
    for place in range(3):
        short = [*parts]
        short[place] = b"short"
        with pytest.raises(MalformedError):
            request_hash(areas[:1], *short)
