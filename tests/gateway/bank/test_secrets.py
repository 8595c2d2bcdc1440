"""After a run nothing of a card stands anywhere: in no table, log line or metric; and no token but in the books.

The run has everything that holds card data on its way: sales, declines, repeats, reversals, broken and refused
messages, at the most talkative level of logging.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from channels.iso8583.message import Message
from config.settings import LogSettings
from gateway import logs
from ledger.all_tables import metadata
from tests.gateway.bank.switch import CARD, network, open_bank, purchase, reversal, tokens
from tests.simulation.shop import open_counter

TRACK = "29121010000012300000"
PIN_BLOCK = "0123456789ABCDEF"
EXPIRY = "2912"
SECRETS = (CARD, TRACK, PIN_BLOCK, CARD[6:], PIN_BLOCK.lower())


async def test_nothing_of_a_card_is_kept(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    logs.set_up(LogSettings(level="DEBUG"), stream)
    made: list[str] = []
    async with open_counter(database_url) as counter:
        async with open_bank(counter) as bank:
            line = await bank.line()
            whole: dict[str, Any] = {
                "f14": EXPIRY,
                "f36": f"{CARD}{TRACK}",
                "f45": f"B{CARD}^HOLDER/A MS.^{TRACK}",
                "f55": "9F1A0404",
            }
            sold = purchase(1, **whole)
            for asked in (
                sold,
                Message("0201", dict(sold.items())),
                purchase(2, 1, **whole),
                purchase(3, drn="99999990007", **whole),
                purchase(5, f41=None, **whole),
                purchase(6, f3="990000", **whole),
                reversal(sold, 901),
                reversal(purchase(7), 902),
                Message("0220", dict(purchase(8, **whole).items())),
                Message("0100", dict(purchase(9, f3="380000", **whole).without([4]).items())),
                network("201", 10, f15="0606"),
            ):
                made += tokens(await line.ask(asked))
            packed = bank.profile.packager.encode(sold)
            line.send(packed[:-3], packed + b"more", packed.replace(b"06054900", b"0605A900"))
            assert (await line.ask(network("301", 11))).get(39) == "00"
            exposition = bank.metrics.exposition().decode()
        kept = await counter.store.read(_everything)
    log = stream.getvalue() + caplog.text
    assert "refused" in log and "bank kcb" in log
    assert made
    for secret in SECRETS:
        assert secret not in kept, "in a table"
        assert secret not in log, "in the log"
        assert secret not in exposition, "in the metrics"
    for token in made:
        assert token not in log and token not in exposition
        assert token not in without_tokens(kept), "in a table that is none of tokens"


def _everything(connection: sa.Connection) -> str:
    """Every row of every table, as text."""
    texts = []
    for table in metadata.sorted_tables:
        for row in connection.execute(sa.select(table)):
            texts.append(f"{table.name} {tuple(row)!r}")
    return "\n".join(texts)


def without_tokens(kept: str) -> str:
    """What is kept, but for the tokens themselves."""
    return "\n".join(line for line in kept.splitlines() if not line.startswith("token "))


def test_the_settings_of_a_bank_show_no_key(tmp_path: Path) -> None:
    from config.load import load

    (tmp_path / "zmk").write_text("0123456789ABCDEFFEDCBA9876543210")
    text = f"[[bank]]\nname = 'kcb'\ncurrency = '404'\ndial = 'h:1'\nzmk_file = '{tmp_path}/zmk'\n"
    assert "0123456789ABCDEF" not in repr(load(text, {}))
