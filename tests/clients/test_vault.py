"""A vault: encrypted at rest, replaced whole, one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from peewit_clients.vault import Vault
from peewit_federation.errors import OperatorError


def test_what_was_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "state"
    with Vault.make(path, "open sesame") as vault:
        assert vault.read() is None
        vault.write(b"first secret")
        vault.write(b"second secret")
    with Vault(path, "open sesame") as vault:
        assert vault.read() == b"second secret"
        with pytest.raises(OperatorError, match="in use by another command"):
            Vault(path, "open sesame")
    everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"secret" not in everything
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.parent.iterdir() if file.suffix != ".lock")


def test_a_wrong_passphrase_and_a_damaged_file_are_refused_and_nothing_is_made_twice(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with Vault.make(path) as vault:
        vault.write(b"secret")
    with pytest.raises(OperatorError, match="exists already"):
        Vault.make(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with Vault(path) as vault, pytest.raises(OperatorError, match="is damaged"):
        vault.read()
    (tmp_path / "sealed").mkdir()
    Vault.make(tmp_path / "sealed" / "state", "right").close()
    with pytest.raises(OperatorError, match="wrong passphrase"):
        Vault(tmp_path / "sealed" / "state", "wrong")
    with pytest.raises(OperatorError, match="a passphrase is needed"):
        Vault(tmp_path / "sealed" / "state")


def test_a_write_that_is_cut_short_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with Vault.make(path) as vault:
        vault.write(b"first")
    (tmp_path / "state.new").write_bytes(b"half of someth")
    with Vault(path) as vault:
        assert vault.read() == b"first"
        vault.write(b"second")
        assert vault.read() == b"second"
    assert not (tmp_path / "state.new").exists()
