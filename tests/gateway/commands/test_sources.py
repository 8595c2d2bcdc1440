"""`prepaid sources`: what is shown of sources, who may register addresses, what the audit log keeps, and no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from ledger import audit
from ledger.store import migrate, open_store
from tests.config.test_provider_settings import CHECKOUT, KENYA, MOMO, MPESA, NOTIFIED, PAYBILL, PROMPT, REQUEST
from tests.gateway.commands.staff import hire
from tests.gateway.payments.sources import Market, market

SECRET = "hunter2-correct-horse"
PASSWORDS = {"adm.lee": "lee's long password", "fin.zoe": "zoe's long password"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings with every kind of source, and two operators."""
    url = f"sqlite:///{tmp_path}/t.db"
    asyncio.run(migrate(url))
    path = tmp_path / "prepaid.toml"
    path.write_text(
        KENYA + f'[database]\nurl = "{url}"\n' + MPESA + 'account_mark = "P"\nbase_url = "http://127.0.0.1:1"\n'
        + PROMPT + PAYBILL + MOMO + REQUEST + CHECKOUT + NOTIFIED
    )  # fmt: skip
    monkeypatch.setenv("S", SECRET)
    for login, password in PASSWORDS.items():
        (tmp_path / login).write_text(password + "\n")
    hire(path, {"adm.lee": "ADMIN", "fin.zoe": "FINANCE"})
    return path


def register(config: Path, login: str, name: str = "paybill") -> int:
    signed = ["--as", login, "--password-file", str(config.parent / login), "--reason", "going live"]
    return main(["sources", "register", "--config", str(config), *signed, name])


def audited(config: Path) -> list[Any]:
    async def work() -> list[Any]:
        store = await open_store(f"sqlite:///{config.parent}/t.db")
        try:
            return list(await store.read(lambda connection: audit.latest(connection, 20)))
        finally:
            await store.close()

    rows = sorted(asyncio.run(work()), key=lambda row: row.seq)
    return [row for row in rows if row.deed.startswith("sources.")]


def test_sources_are_listed_without_their_secrets(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "list", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "prompt  mpesa_stk  collect, notify, status  https://pay.example/payments/prompt/***" in shown
    assert "mtn  momo  collect, status  no callbacks" in shown
    assert "at  africastalking  collect, notify, statement, status" in shown
    assert SECRET not in shown


def with_market(config: Path, work: Callable[[], int]) -> tuple[int, Market]:
    """Run a command while simulated providers serve, which the settings name."""

    async def run() -> tuple[int, Market]:
        async with market() as place:
            place.daraja.consumer_key = place.daraja.consumer_secret = SECRET
            return await asyncio.to_thread(before, place.server.url), place

    def before(url: str) -> int:
        config.write_text(config.read_text().replace("http://127.0.0.1:1", url))
        return work()

    return asyncio.run(run())


def test_an_engineer_registers_both_addresses_and_it_is_audited(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, place = with_market(config, lambda: register(config, "adm.lee"))
    assert code == 0
    assert place.daraja.registered == {
        "ConfirmationURL": f"https://pay.example/payments/paybill/{SECRET}?step=confirmation",
        "ValidationURL": f"https://pay.example/payments/paybill/{SECRET}?step=validation",
        "ResponseType": "Cancelled",
    }
    rows = audited(config)
    assert [(row.deed, row.subject, row.who) for row in rows] == [
        ("sources.register", "paybill", "adm.lee"),
        ("sources.registered", "paybill", "adm.lee"),
    ]
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err + "".join(row.after for row in rows)


def test_who_may_not_register_is_refused_and_audited(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert register(config, "fin.zoe") == 1
    assert "ENGINEER" in capsys.readouterr().err
    assert [row.who for row in audited(config)] == ["fin.zoe"]


def test_a_provider_that_cannot_be_reached_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert register(config, "adm.lee") == 1
    assert "refused: not sent" in capsys.readouterr().out
    assert [row.deed for row in audited(config)] == ["sources.register", "sources.registered"]


def test_only_c2b_sources_have_addresses_to_register(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert register(config, "adm.lee", "prompt") == 2
    assert "one of paybill expected" in capsys.readouterr().err
