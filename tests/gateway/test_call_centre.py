"""The call centre: "I paid, no token". One command finds the account, another sends the token, seen by nobody here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.demo import tokens_in
from ledger import tables
from tests.gateway.terminal import METER, Terminal
from tests.simulation.shop import AMINA


@pytest.fixture
def desk(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """The sample utility on each database."""
    return Terminal(tmp_path, database_url, monkeypatch, capsys).set_up()


def _sell(desk: Terminal, amount: int = 500) -> str:
    sold = desk.well(f"sell --as ag.njeri --meter {METER} --amount {amount}")
    found = re.search(r"Receipt (\w{13})", sold)
    assert found is not None
    return found[1]


def test_an_account_is_found_by_phone_receipt_meter_and_number(desk: Terminal) -> None:
    receipt = _sell(desk)
    for wanted in ("A100001", METER, AMINA, f"+{AMINA}", receipt, receipt.lower()):
        shown = desk.well(f"customers show {wanted} --as cc.pam")
        assert shown.startswith("account A100001") and receipt in shown and not tokens_in(shown)
    desk.no("customers show 254700000000 --as cc.pam", "no account, meter, phone or receipt")
    # A meter that was replaced leads to the one in its place.
    replaced = tables.meter.update().where(tables.meter.c.drn == "07770000011").values(replaced_by=METER)
    desk.read(lambda connection: connection.execute(replaced).rowcount)
    assert "account A100001" in desk.well("customers show 07770000011 --as cc.pam")


def test_a_token_is_sent_once_more_to_the_phone_and_the_call_centre_does_not_see_it(desk: Terminal) -> None:
    first, receipt = _sell(desk), _sell(desk, 600)
    said = desk.well(f"purchase resend {receipt} --as cc.pam --reason 'no SMS came'")
    assert f"phone ending in {AMINA[-3:]}" in said and not tokens_in(said)
    o = tables.outbox.c
    wanted = sa.select(o.recipient, o.message, o.fields).where(o.message == "last_token")
    ((recipient, _, fields),) = desk.read(lambda connection: connection.execute(wanted).all())
    assert recipient == AMINA and json.loads(fields)["receipt"] == receipt
    desk.no(f"purchase resend {first} --as cc.pam", f"only the last is sent: receipt {receipt}")
    desk.no(f"purchase resend {receipt} --as ag.njeri", "has not the role")
    for _ in range(2):
        desk.well(f"purchase resend {receipt} --as cc.pam --reason 'once more'")
    desk.no(f"purchase resend {receipt} --as cc.pam", "it is not sent again: too_often")
    assert desk.type(f"purchase show {receipt} --as aud.kay").out.count("COPY, to") == 3
    desk.check()


def test_what_a_station_brought_in_stands_first_in_its_statement(desk: Terminal) -> None:
    desk.well("sell --as ag.njeri --meter 07003012213 --amount 100")
    told = desk.well("stations statement ST002 --as fin.zoe --from 2026-06-01 --to 2026-06-30").splitlines()
    assert [line.split()[2] for line in told[2:4]] == ["opening", "sale"] and "Africa/Nairobi" in told[0]
