"""`prepaid sms` and `prepaid simulate smsc`: who may steer links and replay letters, and what is shown."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from channels.smpp.message_centre import Fault, IdForm
from gateway.__main__ import main
from gateway.commands import simulators as simulators_commands
from gateway.world import RealWorld
from ledger import audit, links, sms, tables
from ledger.sms import SentRow
from ledger.sms_tables import sms_sent
from ledger.store import open_store
from tests.gateway.commands.staff import hire
from tests.simulation.shop import open_counter

PASSWORDS = {"adm.lee": "lee's long password", "eng.raj": "raj's long password", "fin.zoe": "zoe's long password"}
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of the sample utility with a link, three operators, a sale and its reply."""
    url = f"sqlite:///{tmp_path}/t.db"

    async def load() -> None:
        async with open_counter(url) as counter:
            (reply,) = (await counter.buy()).replies
            row = SentRow(
                RealWorld().new_id(), "umoja", "7f", "007F", reply.id, 1, 1, "umoja-1", reply.recipient,
                "DELIVRD", None, NOW, False,
            )  # fmt: skip

            def mark(connection: Any) -> None:
                o = tables.outbox
                values = {"state": "DEAD", "ended_at": NOW, "detail": "umoja-1: ESME_RINVDSTADR"}
                connection.execute(o.update().where(o.c.id == reply.id).values(values))
                connection.execute(sms_sent.insert(), dict(zip(sms_sent.c.keys(), row.values(), strict=True)))
                links.keep(
                    connection, node="node-1", holder="x", slots={"umoja-1": 2}, now=RealWorld().now(),
                    lease=timedelta(hours=1), skew=timedelta(0),
                )  # fmt: skip

            await counter.store.transact(mark)

    asyncio.run(load())
    path = tmp_path / "prepaid.toml"
    link = '[[smpp]]\nname = "umoja-1"\nhost = "smsc.example"\nsystem_id = "us"\nbinds_max = 2\n'
    path.write_text(f'[database]\nurl = "{url}"\n{link}')
    for login, password in PASSWORDS.items():
        (tmp_path / login).write_text(password + "\n")
    hire(path, {"adm.lee": "ADMIN", "eng.raj": "ENGINEER", "fin.zoe": "FINANCE"})
    return path


def sms_(config: Path, deed: str, *more: str, login: str = "") -> int:
    signed = ["--as", login, "--password-file", str(config.parent / login), "--reason", "test"] if login else []
    return main(["sms", deed, "--config", str(config), *signed, *more])


def in_books(config: Path, function: Any) -> Any:
    async def work() -> Any:
        store = await open_store(f"sqlite:///{config.parent}/t.db")
        try:
            return await store.read(function)
        finally:
            await store.close()

    return asyncio.run(work())


def test_an_engineer_pauses_drains_and_resumes_a_link_on_record(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sms_(config, "pause", "umoja-1", login="fin.zoe") == 1
    assert sms_(config, "pause", "nobody", login="eng.raj") == 2
    assert "one of umoja-1 expected" in capsys.readouterr().err
    for deed in ("pause", "drain", "resume"):
        assert sms_(config, deed, "umoja-1", login="eng.raj") == 0
    assert "link umoja-1: RUN, was DRAINED; every node obeys within 5 s" in capsys.readouterr().out
    assert sms_(config, "links") == 0
    shown = capsys.readouterr().out
    assert "umoja-1  RUN  smsc.example:2775, 2 binds, set by eng.raj" in shown and "because: test" in shown
    assert "bind 1: held by node-1" in shown and "bind 2: free" in shown
    rows = in_books(config, lambda connection: audit.latest(connection, 20, "link umoja-1"))
    assert [row.deed for row in rows] == ["sms.paused", "sms.drained", "sms.run"]


def test_a_letter_that_was_given_up_is_shown_without_its_text_and_sent_again(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (letter,) = in_books(config, lambda connection: sms.dead(connection, at_most=9))
    assert sms_(config, "dead") == 0
    shown = capsys.readouterr().out
    assert str(letter.id) in shown and "ESME_RINVDSTADR" in shown and letter.recipient not in shown
    assert sms_(config, "replay", str(letter.id), login="fin.zoe") == 1
    assert sms_(config, "replay", "7", login="eng.raj") == 2
    assert sms_(config, "replay", str(UUID(int=7)), login="eng.raj") == 2
    assert sms_(config, "replay", str(letter.id), login="eng.raj") == 0
    assert sms_(config, "replay", str(letter.id), login="eng.raj") == 2
    capsys.readouterr()
    assert sms_(config, "dead") == 0
    assert "no reply was given up" in capsys.readouterr().out


def test_all_letters_of_one_fault_are_sent_again_and_the_rest_stay(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (letter,) = in_books(config, lambda connection: sms.dead(connection, at_most=9))

    def more(connection: Any) -> None:
        o = tables.outbox
        (row,) = connection.execute(o.select().where(o.c.id == letter.id)).mappings()
        for number in range(500):
            detail = "umoja-1: ESME_RINVDSTADR" if number % 2 else "umoja-1: 50%_RINVDSTADR"
            connection.execute(o.insert(), {**row, "id": UUID(int=number + 1), "detail": detail})

    async def load() -> None:
        store = await open_store(f"sqlite:///{config.parent}/t.db")
        await store.transact(more)
        await store.close()

    asyncio.run(load())
    for wrong in ((), ("--detail", "x"), (str(letter.id), "--all")):
        assert sms_(config, "replay", *wrong, login="eng.raj") == 2
    assert sms_(config, "replay", "--all", login="fin.zoe") == 1
    capsys.readouterr()
    for detail, count in (("_RINVSRCADR", 0), ("%", 250), ("ESME_RINVDSTADR", 251), ("", 0)):
        assert sms_(config, "replay", "--all", "--detail", detail, login="eng.raj") == 0
        assert f"{count} replies are owed again" in capsys.readouterr().out
    assert in_books(config, lambda connection: sms.dead(connection, at_most=9)) == []
    rows = in_books(config, lambda connection: audit.latest(connection, 1_000))
    assert sum(row.deed == "sms.replay" and row.reason == "test" for row in rows) == 501


def test_what_became_of_a_receipt_is_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = in_books(config, lambda connection: connection.execute(tables.purchase.select()).one().receipt)
    assert sms_(config, "show", receipt) == 0
    shown = capsys.readouterr().out
    assert "part 1 of 1 by umoja-1, message id 007F: DELIVRD 2026-11-22 12:00 UTC" in shown
    assert "as a whole: DELIVRD" in shown
    assert sms_(config, "show", "nothing") == 2


def _options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    simulators_commands.add_centre(parser.add_subparsers())
    return parser.parse_args(["smsc", *arguments])


def test_the_message_centre_misbehaves_as_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = _options(
        "--fault", "throttle=0.1", "--fault", "early_receipt=1", "--receipt-ids", "decimal", "--response-ids", "hex",
        "--receipts-in", "parameters", "--binds-max", "2", "--no-message-ids",
    )  # fmt: skip
    settings = simulators_commands.settings_of(told, "x")
    assert settings.fault_rates == {Fault.THROTTLE: 0.1, Fault.EARLY_RECEIPT: 1.0}
    assert (settings.response_ids, settings.receipt_ids) == (IdForm.HEX, IdForm.DECIMAL)
    assert (settings.receipts, settings.receipt_text, settings.receipt_tlvs) == (True, False, True)
    assert settings.accounts[0].binds_max == 2 and settings.id_tlv is None
    for wrong in ("throttle", "throttle=2", "nothing=0.1"):
        with pytest.raises(SystemExit):
            _options("--fault", wrong)
