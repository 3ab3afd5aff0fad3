"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients.surgery import Surgery
from tests.federation_kit import Federation


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[Federation]:
    """Four nodes on loopback, running."""
    made = Federation.make(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def surgery(tmp_path: Path) -> AsyncIterator[Surgery]:
    """The same with a draw, a health district and what its practices need."""
    made = await Surgery.open(tmp_path)
    yield made
    await made.federation.stop()
