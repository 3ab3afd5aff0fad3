"""Names on paper."""

from __future__ import annotations

import pytest

from peewit_clients.latin import latin


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Müller, Zoë", "Müller, Zoë"),
        ("Öztürk-Łódź, Şükrü", "Öztürk-Lodz, Suekrue"),
        ("Иванов", "Ivanov"),
        ("ŁÓDŹ 12", "LODZ 12"),
        ("李", "?"),
    ],
)
def test_a_name_is_printed_as_it_is_or_as_machines_read_it(name: str, printed: str) -> None:
    assert latin(name) == printed
