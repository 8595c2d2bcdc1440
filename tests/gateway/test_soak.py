"""A short soak: counts in equal counts out while the message centre does everything wrong (`python -m tests.soak`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import soak


@pytest.mark.parametrize(("seed", "cuts"), [(7, 0.02), (8, 0.0)])
async def test_some_hundreds_of_messages_are_answered_exactly_once_each(
    database_url: str, tmp_path: Path, seed: int, cuts: float
) -> None:
    verdict = await soak(database_url, tmp_path, 200, seed, cuts)
    assert verdict.faults > 30 and verdict.matched > 150
    if cuts:
        assert verdict.sessions > 1
