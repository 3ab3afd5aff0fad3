"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.federation_kit import Federation


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[Federation]:
    """Four nodes on loopback, running."""
    made = Federation.make(tmp_path)
    await made.start()
    yield made
    await made.stop()
