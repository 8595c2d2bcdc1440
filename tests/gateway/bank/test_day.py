"""A small day of a bank with faults, two kill -9 of the gateway and a cut-over in the middle, on both databases.

The whole one is `python -m tests.simulation.bank_day`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.bank_day import day

PURCHASES = 160


@pytest.mark.parametrize("seed", [583])
async def test_a_day_with_two_kills_and_a_cut_over_matches_line_by_line(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    found = await day(database_url, tmp_path, PURCHASES, seed, patience_s=180)
    assert found.complaints == []
    assert found.tokens_taken > PURCHASES // 2 and found.switch.counts.faults
