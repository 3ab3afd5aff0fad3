"""Base45, containers, signatures and names: what they accept, and what they refuse."""

from __future__ import annotations

import zlib
from datetime import date

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewit_federation.draw.hashes import Person
from peewit_federation.errors import LimitError, MalformedError, PeewitError, SenderError, UnknownError
from peewit_federation.passports import base45, dcc, hc1, loose_cbor
from peewit_federation.passports.issue import Dose, check_character, issue, new_uvci
from peewit_federation.passports.names import read_machine, transliterate
from peewit_federation.passports.revocation import RevokedList
from peewit_federation.passports.signed import Signed
from peewit_federation.passports.signer import read_signer
from peewit_federation.passports.values import PRODUCTS, product, product_name
from tests.passports.kit import DOSE, ERIKA, NOW, issuer, passport, randomness

# RFC 9285, section 4.3 and 4.4
RFC9285 = [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0")]


@pytest.mark.parametrize(("data", "text"), RFC9285)
def test_base45_is_that_of_the_rfc(data: bytes, text: str) -> None:
    assert (base45.encode(data), base45.decode(text)) == (text, data)


@given(st.binary(max_size=200))
def test_base45_gives_back_what_went_in(data: bytes) -> None:
    assert base45.decode(base45.encode(data)) == data


@given(st.text(alphabet=base45.ALPHABET + "aé€", max_size=30))
def test_base45_accepts_only_what_encoding_makes(text: str) -> None:
    try:
        data = base45.decode(text)
    except MalformedError:
        return
    assert base45.encode(data) == text


@pytest.mark.parametrize(
    "text", ["GGW", ":::", "::", "A", "ABCA", "bb8", "BB8ä", "BB8€", "BB\n", "QED8WEX0\0"]
)  # fmt: skip
def test_overflow_and_garbage_in_base45_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        base45.decode(text)


def test_a_zlib_bomb_is_refused_before_it_unpacks() -> None:
    bomb = zlib.compress(bytes(200 << 20), 9)
    with pytest.raises(LimitError, match="unpacks to more than"):
        hc1.inflate(bomb)


@pytest.mark.parametrize(
    "data", [b"", b"plain", zlib.compress(b"x")[:-1], zlib.compress(b"x") + b"tail", zlib.compress(b"x") * 2]
)
def test_what_is_cut_off_not_packed_or_followed_by_something_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        hc1.inflate(data)


@pytest.mark.parametrize("text", ["HC2:", "hc1:NCF", "NCFOXN", "", " HC", "HC1;"])
def test_other_prefixes_are_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="does not begin with HC1"):
        hc1.unprefix(text)
    with pytest.raises(LimitError):
        hc1.unprefix("HC1:" + "0" * 9000)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("c074323032312d30352d30345430303a30303a30305a", "2021-05-04T00:00:00Z"),  # a tagged date stays a text
        ("d903ec6a323032312d30352d3034", "2021-05-04"),
        ("bf616101ff", {"a": 1}),
        ("d81c81d81d00", [0]),  # a cycle is not made
        ("d82361282829".replace("61282829", "622829"), "()"),  # a regular expression is not compiled
    ],
)
def test_tags_are_dropped_without_acting_on_them(data: str, value: object) -> None:
    assert loose_cbor.decode(bytes.fromhex(data), 1000) == value


@pytest.mark.parametrize(
    "data",
    ["", "a2616101616102", "0000", "a16161", "81" * 40 + "00", "ff", "5b7fffffffffffffff", "1c", "62c328", "a1800000"],
)
def test_bad_cbor_is_refused(data: str) -> None:
    """Empty, key twice, trailing bytes, cut off, too deep, a lonely break, a huge length, reserved, no UTF-8."""
    with pytest.raises(SenderError):
        loose_cbor.decode(bytes.fromhex(data), 1000)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_our_own_errors(data: bytes) -> None:
    readers = (
        lambda: loose_cbor.decode(data, 1000), lambda: Signed.parse(data), lambda: dcc.read_claims(data),
        lambda: read_signer(data), lambda: hc1.inflate(data), lambda: RevokedList.decode(data),
        lambda: dcc.read_certificate(loose_cbor.decode(data, 1000), NOW),
    )  # fmt: skip
    for read in readers:
        try:
            read()
        except PeewitError:
            continue


def with_entry(**changes: object) -> dict[str, object]:
    content = dcc.read_claims(Signed.parse(hc1.unpack(passport().hc1)).payload).content
    assert isinstance(content, dict)
    entry = {**content["v"][0], **changes}
    return {**content, "v": [{name: value for name, value in entry.items() if value is not None}]}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([], "no map"),
        ({}, "ver"),
        ({"ver": "1.3.0\n"}, "ver"),
        ({"ver": "2.0.0"}, "version 2.0.0"),
        ({**with_entry(), "nam": {"fn": "A"}}, "fnt"),
        ({**with_entry(), "nam": {"fnt": "a"}}, "fnt"),
        ({**with_entry(), "nam": {"fnt": "A", "fn": "x" * 81}}, "fn"),
        ({**with_entry(), "dob": "12.08.1940"}, "dob"),
        ({**with_entry(), "dob": 1940}, "dob"),
        ({**with_entry(), "r": []}, "2 kinds"),
        ({"ver": "1.3.0", "nam": {"fnt": "A"}, "dob": ""}, "0 kinds"),
        ({**with_entry(), "v": []}, "one entry"),
        ({**with_entry(), "v": None}, "0 kinds"),
        ({**with_entry(), "v": [None]}, "a map"),
        (with_entry(dn=0), "dn"),
        (with_entry(dn=True), "dn"),
        (with_entry(dn=1.5), "dn"),
        (with_entry(co="de"), "co"),
        (with_entry(ci="x" * 81), "ci"),
        (with_entry(mp=None), "mp missing"),
    ],
)
def test_a_certificate_that_breaks_its_schema_is_refused_with_the_member(content: object, what: str) -> None:
    with pytest.raises(MalformedError, match=what):
        dcc.read_certificate(content, NOW)


def test_a_huge_dose_number_is_a_number_and_breaks_nothing() -> None:
    assert dcc.read_certificate(with_entry(dn=10**15), NOW).entries[0]["dn"] == 10**15


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("Müller-Weiß", "MUELLER<WEISS"),
        ("Zoë Ana-María", "ZOE<ANA<MARIA"),
        ("d'Artagnan, Jr.", "DARTAGNAN<JR"),
        ("Ångström Ærø Þór", "AANGSTROEM<AEROE<THOR"),
        ("ŁUKASZ Đoković", "LUKASZ<DOKOVIC"),
        ("Şükrü İpek ılgaz", "SUEKRUE<IPEK<ILGAZ"),
        ("Щербак Юлія", "SHCHERBAK<IULIIA"),
        ("  Anna  --  Lena ", "ANNA<LENA"),
        ("ẞ ŉ ǆ ﬁ", "SS<N<DZ<FI"),
        ("", ""),
        ("Wolfeschlegelsteinhausenbergerdorff " * 3, "WOLFESCHLEGELSTEINHAUSENBERGERDORFF<WOLFESCHLEGELSTEINHAUSENBERGERDORFF<WOLFESCH"),
        ("A" * 79 + " B", "A" * 79),
    ],
)  # fmt: skip
def test_names_are_written_as_machines_read_them(name: str, machine: str) -> None:
    assert transliterate(name) == machine
    assert len(transliterate(name)) <= 80


def test_a_letter_without_a_transliteration_is_named_with_what_to_do() -> None:
    with pytest.raises(MalformedError, match="U\\+738B .*machine-readable lines"):
        transliterate("王")


def test_a_name_in_another_script_is_written_as_its_document_writes_it() -> None:
    assert read_machine("salama<<ali<hassan<<<<") == ("SALAMA", "ALI<HASSAN")
    person = Person("سلامة", "علي", date(1940, 1, 1))
    made = issue(person, DOSE, issuer(), NOW, randomness(), machine="SALAMA<<ALI")
    name = dcc.read_certificate(dcc.read_claims(Signed.parse(hc1.unpack(made.hc1)).payload).content, NOW).name
    assert (name["fn"], name["fnt"], name["gn"], name["gnt"]) == ("سلامة", "SALAMA", "علي", "ALI")
    for wrong in ("", "<<ALI", "SALAMA<<ALI1", "SALAMA ALI", "A<<<B", "A<<B<<C"):
        with pytest.raises(MalformedError):
            read_machine(wrong)
    with pytest.raises(MalformedError, match="more parts"):
        issue(Person("", "王", date(1940, 1, 1)), DOSE, issuer(), NOW, randomness(), machine="WANG<<LI")
    with pytest.raises(MalformedError, match="machine-readable"):
        issue(person, DOSE, issuer(), NOW, randomness(), machine="SALAMA")


def test_one_name_alone_stands_in_both_places_of_its_machine_form() -> None:
    only = Person("", "Sukarno", date(1940, 1, 1))
    content = dcc.read_claims(Signed.parse(hc1.unpack(passport(only).hc1)).payload).content
    assert dcc.read_certificate(content, NOW).name == {"fnt": "SUKARNO", "gn": "Sukarno", "gnt": "SUKARNO"}


def test_names_of_more_than_eighty_letters_are_cut_as_documents_cut_them() -> None:
    long = Person("Ö" * 100, "Ж" * 100, date(1940, 1, 1))
    name = dcc.read_certificate(dcc.read_claims(Signed.parse(hc1.unpack(passport(long).hc1)).payload).content, NOW).name
    assert (name["fn"], name["fnt"]) == ("Ö" * 80, "OE" * 40)
    assert (name["gn"], name["gnt"]) == ("Ж" * 80, "ZH" * 40)


def test_x8_an_identifier_says_nothing_and_has_the_check_character_of_the_specification() -> None:
    assert check_character("URN:UVCI:01:AT:10807843F94AEE0EE5093FBC254BD813") == "B"
    first, second = (new_uvci("DE", randomness(name)) for name in ("a", "b"))
    assert first != second
    assert len(first) == len("URN:UVCI:01:DE:") + 26 + 2


@pytest.mark.parametrize(("number", "series"), [(0, 2), (1, 0), (10, 2), (1, 10), (-1, 1)])
def test_a_dose_that_nobody_gives_is_refused(number: int, series: int) -> None:
    with pytest.raises(MalformedError, match="doses are counted"):
        Dose(DOSE.product, number, series, DOSE.day)


@pytest.mark.parametrize("day", [date(1940, 8, 11), date(2026, 11, 24), date(9999, 1, 1)])
def test_a_dose_before_birth_or_in_the_future_is_refused(day: date) -> None:
    with pytest.raises(MalformedError, match="before birth or in the future"):
        issue(ERIKA, Dose(DOSE.product, 1, 2, day), issuer(), NOW, randomness())


def test_a_vaccine_is_found_by_name_or_code_and_an_unknown_one_shown_by_its_code() -> None:
    assert product("comirnaty ") is product("EU/1/20/1528")
    assert product_name("EU/9/99/1") == "EU/9/99/1"
    assert len({one.code for one in PRODUCTS}) == len(PRODUCTS)
    with pytest.raises(UnknownError, match="Spikevax"):
        product("Aspirin")


def test_the_lot_of_a_vaccine_is_in_neither_format() -> None:
    found = dcc.read_claims(Signed.parse(hc1.unpack(passport().hc1)).payload).content
    assert isinstance(found, dict)
    assert set(found["v"][0]) == {"tg", "vp", "mp", "ma", "dn", "sd", "dt", "co", "is", "ci"}


def test_a_list_of_revoked_passports_has_one_encoding_and_gives_back_what_went_in() -> None:
    for count in (0, 1, 2, 1000):
        some = RevokedList.of((b"m", number.to_bytes(16, "big")) for number in range(count))
        data = some.encode()
        assert RevokedList.decode(data) == some
        for wrong in (data[:-1], data + b"\0", data + b"\1"):
            with pytest.raises(SenderError):
                RevokedList.decode(wrong)
    assert some.has(b"m", (5).to_bytes(16, "big"))
    assert not some.has(b"another mediator", (5).to_bytes(16, "big"))
    assert not some.has(b"m", (1000).to_bytes(16, "big"))


def test_algorithms_of_other_names_verify_nothing() -> None:
    signed = Signed.parse(hc1.unpack(passport().hc1))
    key = issuer().key.public_key()
    assert signed.verifies(key)
    for algorithm in (-37, -8, -36, 0, None):
        header = {4: signed.kid} | ({1: algorithm} if algorithm is not None else {})
        assert not Signed(cbor2.dumps(header), algorithm, signed.kid, signed.payload, signed.signature).verifies(key)
