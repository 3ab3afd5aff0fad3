"""The public formats, against their specifications' examples and vectors of independent implementations."""

from __future__ import annotations

import pytest

from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import (
    Checkpoint,
    Head,
    cosign,
    log_key,
    open_cosignature,
    open_head,
    sign_checkpoint,
    witness_key,
)
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.note import ED25519, Note, Signature, VerifierKey, sign
from peewit_federation.log.proof_file import LogProof
from peewit_federation.log.proofs import consistency_proof, inclusion_proof, leaf_source
from peewit_federation.log.tiles import Tile, edge, encode_bundle, split_bundle

SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# golang.org/x/mod/sumdb/note
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
# Made with filippo.io/torchwood and golang.org/x/mod: seeds of 32 times 0x08 (log) and 0x07 (witness), entries "entry 0" to "entry 6".
TORCHWOOD_LOG = "log.example/l8+45220faa+AROY9ixtGkV8UbpqS189vS9p/KkyFiGNyJl+QWvRfZPK"
TORCHWOOD_WITNESS = "witness.example/w7+b84f516a+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
TORCHWOOD_NOTE = (
    "log.example/l8\n7\nmMl/C6MXXNCLAx3QhLncTmSbZNGijm6mlGRlAxc6tYc=\n\n"
    "— log.example/l8 RSIPqk/5X0CnKixz4h6y7O9WDWjBP9mpVz54WN9uUZhomVnIK0rCj5ugdMRIPQmEOXcxZb88ek2xgGAHe0pHeHS8dws=\n"
    "— witness.example/w7 uE9RagAAAABrAiPnJmdOsbdGSBCQW23Kwe0wMxaZsQODsSWbfUuoSa9rDXdEqBlz/wjL9mXDKBQbY4VbrAL5O2G5mSWa"
    "OLEhz+yaAw==\n"
)
TORCHWOOD_PATH = [
    "n/U3thiiV++CkIxFkVrLrrbZ3qA11tk5ZPyIwZ6YyLM=",
    "vhV4G2KKKEFMHIoRuG24Qi+hBBIV/g18RJbSPNoeQUI=",
    "l5nzB1F+9RfCIF35tndivzR1ayAJn7ffzOdrzr0nOy4=",
]
# The Certificate Transparency reference tree.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION_5_OF_8 = [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
CT_CONSISTENCY_2_TO_5 = [
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
]


def test_the_example_of_the_signed_note_specification_verifies() -> None:
    key = VerifierKey.parse(SPEC_KEY)
    assert str(key) == SPEC_KEY
    note = Note.parse(SPEC_NOTE.encode())
    assert note.verify([key]) == [key]
    assert note.encode() == SPEC_NOTE.encode()


def test_notes_of_the_go_implementation_verify_and_signing_gives_their_bytes() -> None:
    key = VerifierKey.parse(GO_KEY)
    note = Note.parse((GO_TEXT + "\n" + GO_LINE + "\n").encode())
    assert note.verify([key]) == [key]
    log = SigningKey(b"\x08" * 32)
    assert (
        str(sign("log.example/l8\n7\n" + TORCHWOOD_NOTE.split("\n")[2] + "\n", "log.example/l8", log)).strip()
        == (TORCHWOOD_NOTE.split("\n")[4])
    )


def test_a_checkpoint_cosigned_by_torchwood_opens_and_we_cosign_with_the_same_bytes() -> None:
    log, witness = VerifierKey.parse(TORCHWOOD_LOG), VerifierKey.parse(TORCHWOOD_WITNESS)
    head = open_head(TORCHWOOD_NOTE.encode(), log, {witness.name: witness})
    assert head.witnesses == {"witness.example/w7"}
    assert head.root == root_of(leaf_hash(b"entry %d" % i) for i in range(7))
    ((_, theirs),) = head.cosignatures
    ours = cosign(head.checkpoint, witness.name, SigningKey(b"\x07" * 32), theirs.time_s)
    assert str(ours.signature) == TORCHWOOD_NOTE.split("\n")[5] + "\n"
    assert head.encode() == TORCHWOOD_NOTE.encode()


def test_inclusion_paths_equal_those_of_the_go_implementation() -> None:
    from peewit_federation.log.note import b64encode

    leaves = [leaf_hash(b"entry %d" % i) for i in range(7)]
    path = inclusion_proof(4, 7, leaf_source(leaves))
    assert [b64encode(node) for node in path] == TORCHWOOD_PATH
    proof = LogProof(4, tuple(path), TORCHWOOD_NOTE.encode(), b"entry 4")
    opened = LogProof.parse(proof.encode())
    assert opened == proof
    opened.verify(b"entry 4", Checkpoint.parse(Note.parse(TORCHWOOD_NOTE.encode()).text))
    with pytest.raises(ForgeryError):
        opened.verify(b"entry 5", Checkpoint.parse(Note.parse(TORCHWOOD_NOTE.encode()).text))


def test_the_certificate_transparency_reference_tree() -> None:
    leaves = [leaf_hash(bytes.fromhex(text)) for text in CT_LEAVES]
    assert [root_of(leaves[:size]).hex() for size in range(9)] == CT_ROOTS
    assert [n.hex() for n in inclusion_proof(5, 8, leaf_source(leaves))] == CT_INCLUSION_5_OF_8
    assert [n.hex() for n in consistency_proof(2, 5, leaf_source(leaves[:5]))] == CT_CONSISTENCY_2_TO_5


def test_the_framing_of_the_cosignature_specification_example() -> None:
    line = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe"
        "+mbIUBkBIfZ+qnA=="
    )
    signature = Signature.parse(line)
    assert int.from_bytes(signature.raw[:8], "big") == 1679315147
    assert len(signature.raw) == 72
    assert str(signature) == line + "\n"


@pytest.mark.parametrize("cut", range(1, len(GO_KEY)))
def test_no_part_of_a_verifier_key_is_a_verifier_key(cut: int) -> None:
    for part in (GO_KEY[:cut], GO_KEY[cut:]):
        with pytest.raises(MalformedError):
            VerifierKey.parse(part)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name AAAA\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n—  AAAAAAAAAA==\n",
        "text\n\n— na+me AAAAAAAAAA==\n",
        "text\n\n— name AAAAAAAAAA==",
        "te\x01xt\n\n— name AAAAAAAAAA==\n",
        "text\n\n— name AAAAAAAAAA==\n\n",
        "text\n\n— name AAAAAAAAAB==\n",  # bits that base64 does not use
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(MalformedError):
        Note.parse(note.encode())


def test_a_note_with_a_thousand_signatures_is_refused() -> None:
    with pytest.raises(LimitError):
        Note.parse(("text\n\n" + "— name AAAAAAAAAA==\n" * 1000).encode())


def test_a_note_larger_than_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(LimitError):
        Note.parse(b"x" * (64 * 1024 + 1))


def test_a_false_signature_of_a_known_key_refuses_the_note_and_unknown_keys_are_ignored() -> None:
    key = VerifierKey.parse(SPEC_KEY)
    forged = Note.parse(SPEC_NOTE.replace("example message", "example massage").encode())
    with pytest.raises(ForgeryError):
        forged.verify([key])
    other = VerifierKey.parse(GO_KEY)
    assert Note.parse(SPEC_NOTE.encode()).verify([other]) == []


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\nAAAA\n",
        "o\n01\n" + "A" * 43 + "=\n",
        "o\n+1\n" + "A" * 43 + "=\n",
        "o\n-1\n" + "A" * 43 + "=\n",
        "o\n1 \n" + "A" * 43 + "=\n",
        "o\n١\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "o\n1\n" + "A" * 43 + "=\n\nextension\n",
        "o\n1\n",
        "o\n1\n" + "A" * 43 + "=",
    ],
)
def test_a_checkpoint_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(text)


def test_a_size_of_two_to_the_63_is_refused() -> None:
    root = "A" * 43 + "="
    assert Checkpoint.parse(f"o\n{2**63 - 1}\n{root}\n").size == 2**63 - 1
    with pytest.raises(LimitError):
        Checkpoint.parse(f"o\n{2**63}\n{root}\n")


def make_head(size: int = 3) -> tuple[SigningKey, Head]:
    key = SigningKey(b"\x01" * 32)
    return key, sign_checkpoint(Checkpoint(log_key(key.public).name, size, b"\x02" * 32), key)


def test_a_head_that_its_log_did_not_sign_is_refused() -> None:
    key, head = make_head()
    thief = SigningKey(b"\x03" * 32)
    text = head.checkpoint.text
    fake = Note(text, (sign(text, head.origin, thief),)).encode()
    with pytest.raises(ForgeryError):
        open_head(fake, log_key(key.public), {})
    posing = VerifierKey(head.origin, ED25519, log_key(key.public).public)
    line = Signature(posing.name, posing.key_id, thief.sign(text.encode()))
    with pytest.raises(ForgeryError):
        open_head(Note(text, (line,)).encode(), log_key(key.public), {})
    with pytest.raises(ForgeryError):
        open_head(head.encode(), log_key(thief.public), {})


def test_a_forged_cosignature_or_one_moved_to_another_time_or_head_is_refused() -> None:
    key, head = make_head()
    witness = SigningKey(b"\x04" * 32)
    known = witness_key("w", witness.public)
    good = cosign(head.checkpoint, "w", witness, 1000)
    open_cosignature(head.checkpoint, good.signature, known)
    moved = Signature("w", known.key_id, (2000).to_bytes(8, "big") + good.signature.raw[8:])
    with pytest.raises(ForgeryError):
        open_cosignature(head.checkpoint, moved, known)
    _, other = make_head(4)
    with pytest.raises(ForgeryError):
        open_head(other.with_cosignature("w", good).encode(), log_key(key.public), {"w": known})


def test_a_peewit_checkpoint_with_extension_lines_is_refused() -> None:
    key = SigningKey(b"\x01" * 32)
    name = log_key(key.public).name
    extended = Checkpoint(name, 1, bytes(32), ("extra",))
    note = Note(extended.text, (sign(extended.text, name, key),)).encode()
    with pytest.raises(MalformedError):
        open_head(note, log_key(key.public), {})


def test_tile_paths_are_those_of_the_specification() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(1, 0, 17).path == "tile/1/000.p/17"
    assert Tile(-1, 999, 255).path == "tile/entries/999.p/255"
    assert Tile(1, 1000, 17).path == "tile/1/x001/000.p/17"
    assert [(t.level, t.index, t.width) for t in edge(70_000)] == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert [(t.level, t.index, t.width) for t in edge(256)] == [(1, 0, 1)]


@pytest.mark.parametrize("tile", [Tile(0, 0), Tile(-1, 5, 1), Tile(7, 10**9, 255), Tile(3, 999_999)])
def test_tile_paths_parse_back(tile: Tile) -> None:
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/8/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/../000",
        "tile/0/000/",
        "tile//000",
        "tile/entries/000.p/-1",
        "tile/0/٠٠٠",
        "tile/0/000.p/1.p/1",
        "tile/0/" + "x001/" * 40 + "001",
    ],
)
def test_path_tricks_are_refused(path: str) -> None:
    with pytest.raises(MalformedError):
        Tile.parse(path)


def test_bundles_hold_entries_up_to_65535_bytes_and_not_one_more() -> None:
    entries = [b"", b"x" * 65_535, b"y"]
    assert split_bundle(encode_bundle(entries), 3) == entries
    with pytest.raises(LimitError):
        encode_bundle([b"x" * 65_536])
    with pytest.raises(MalformedError):
        split_bundle(encode_bundle(entries), 2)
    for cut in (1, 2, 3, 65_538):
        with pytest.raises(MalformedError):
            split_bundle(encode_bundle(entries)[:-cut] if cut < 5 else encode_bundle(entries)[:cut], 3)
