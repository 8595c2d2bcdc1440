"""`prepaid vouchers`, `pins` and `customers pay-out` from the command line, as the utility's staff use them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import zlib
from pathlib import Path

import pytest

from channels.commands import RedeemVoucher
from config.load import load
from gateway.deeds import Arrival
from ledger import pins
from ledger.store import open_store
from ledger.trial_balance import broken_invariants
from tests.gateway.commands.staff import hire, run
from tests.gateway.test_pins import KEY
from tests.simulation.shop import AMINA, METER, open_counter
from tests.simulation.world import SeededWorld

STAFF = {"adm.lee": "ADMIN", "fin.zoe": "FINANCE", "fin.max": "FINANCE", "sup.kim": "SUPERVISOR", "cc.ana": "SUPPORT"}
AGENT = "254722000002"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of the sample utility that takes PINs and vouchers, with operators."""
    folder = tmp_path_factory.mktemp("office")
    url = f"sqlite:///{folder}/t.db"

    async def made() -> None:
        async with open_counter(url):
            pass

    asyncio.run(made())
    (folder / "pins.key").write_text(f"{KEY}\n")
    config = folder / "prepaid.toml"
    config.write_text(
        f'[database]\nurl = "{url}"\n[utility]\ntimezone = "Africa/Nairobi"\ncurrency = "KES"\nname = "Umoja Power"\n'
        f'[pins]\nkey_file = "{folder}/pins.key"\n[vouchers]\ntaken = true\n'
    )
    hire(config, STAFF)
    return config


def _numbers(sheet: Path) -> list[str]:
    found = re.findall(rb"stream\r?\n(.*?)\r?\n?endstream", sheet.read_bytes(), re.DOTALL)
    pages = [zlib.decompress(base64.a85decode(one.strip().removesuffix(b"~>"))).decode("latin1") for one in found]
    return [one.replace(" ", "") for one in re.findall(r"\((\d{4}(?: \d{4}){3})\)", "".join(pages))]


def _sold(config: Path, number: str, phone: str, seed: int) -> str:
    """What a phone is told that sends this voucher for a meter."""

    async def ask() -> str:
        url = f"sqlite:///{config.parent}/t.db"
        async with open_counter(url, world=SeededWorld(seed)) as counter:
            settings, asked = load(config, {}), RedeemVoucher(number, METER)
            shop = type(counter.shop).of(settings, counter.world, counter.shop.module)
            done = await counter.store.submit(Arrival(shop, counter.inbound(asked, phone, f"m{seed}")))
            await counter.check_books()
            return done.replies[-1].message.key

    return asyncio.run(ask())


def test_a_batch_from_the_wish_to_the_kiosk_and_back(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = office.parent / "sheet.pdf"
    made = ("vouchers", "make", "K1", "--count", "30", "--value", "500", "--expires-on", "2031-12-31")
    steps = [
        (1, "cc.ana", made, ""),
        (0, "fin.zoe", made, ""),
        (1, "fin.max", made, ""),
        (1, "fin.zoe", ("vouchers", "print", "K1", "--sheet", str(sheet)), ""),
        (1, "fin.zoe", ("vouchers", "approve", "K1"), ""),
        (0, "fin.max", ("vouchers", "approve", "K1"), ""),
        (0, "fin.zoe", ("vouchers", "print", "K1", "--sheet", str(sheet)), ""),
        (1, "fin.zoe", ("vouchers", "print", "K1", "--sheet", str(sheet) + "2"), ""),
        (1, "fin.zoe", ("vouchers", "activate", "K1"), ""),
        (1, "fin.zoe", ("vouchers", "sell", "K1", "--buyer", "cash"), ""),
        (0, "fin.max", ("vouchers", "activate", "K1"), ""),
        (0, "fin.zoe", ("vouchers", "sell", "K1", "--to", "10", "--buyer", "cash"), ""),
        (0, "fin.zoe", ("vouchers", "sell", "K1", "--from", "11", "--to", "12", "--buyer", "ST001"), ""),
        (1, "fin.zoe", ("vouchers", "sell", "K1", "--from", "12", "--to", "14", "--buyer", "ST001"), ""),
        (1, "fin.zoe", ("vouchers", "void", "K1", "--from", "12", "--to", "13"), ""),
        (0, "fin.zoe", ("vouchers", "void", "K1", "--from", "12", "--to", "13"), "fin.max"),
    ]
    for code, login, words, beside in steps:
        assert run(office, login, *words, beside=beside) == code, (login, words, capsys.readouterr())
    assert not Path(f"{sheet}2").exists() and sheet.stat().st_mode & 0o777 == 0o600
    numbers = _numbers(sheet)
    assert len(set(numbers)) == 30
    assert _sold(office, numbers[0], "254733000009", 7) == "sold"
    assert _sold(office, numbers[11], "254733000009", 8) == "voucher_not_valid"
    capsys.readouterr()
    assert run(office, "cc.ana", "vouchers", "show", "K1", "--serial", "1", "--json") == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["used_by"] == "254733000009"
    assert run(office, "cc.ana", "vouchers", "list") == 0
    assert re.search(r"K1 +ACTIVE +30 +500.00 +2031-12-31 +0 +17 +10 +1 +2 +5000.00", capsys.readouterr().out)
    assert run(office, "cc.ana", "vouchers", "show", "K1") == 0
    assert "printed by fin.zoe" in capsys.readouterr().out


def test_pins_and_limits_of_phones(
    office: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["4831", "1234", "48"])
    monkeypatch.setattr("gateway.keysession.Session.secret", _typed(typed))
    assert run(office, "cc.ana", "pins", "set", AMINA) == 0
    assert [run(office, "cc.ana", "pins", "set", AMINA) for _ in range(2)] == [2, 2]
    assert "1234" not in capsys.readouterr().err
    assert run(office, "cc.ana", "pins", "unlock", AMINA) == 1
    assert run(office, "cc.ana", "pins", "limits", AGENT, "--per-sale", "500", "--per-day", "none") == 1
    assert run(office, "sup.kim", "pins", "limits", AGENT, "--per-sale", "500", "--per-day", "none") == 0
    assert run(office, "fin.zoe", "pins", "rule", "ST001", "above") == 2
    assert run(office, "fin.zoe", "pins", "rule", "ST001", "above", "--amount", "200") == 0
    capsys.readouterr()
    assert run(office, "cc.ana", "pins", "show", AGENT, "--json") == 0
    assert json.loads(capsys.readouterr().out)["per_sale_minor"] == 50_000
    assert run(office, "cc.ana", "pins", "show", AMINA, "--json") == 0
    assert json.loads(capsys.readouterr().out)["is_set"] is True
    stored = asyncio.run(_stored(office))
    assert stored is not None and pins.pin_fits("4831", AMINA, KEY, stored)
    assert run(office, "cc.ana", "pins", "remove", AMINA) == 0
    assert asyncio.run(_stored(office)) is None


def _typed(answers: object) -> object:
    """Passwords as they are read; a new PIN from the list."""
    from gateway.keysession import Session

    real = Session.secret

    def secret(self: Session, asked: str, path: Path | None = None, *, twice: bool = False) -> str:
        return next(answers) if asked == "new PIN: " else real(self, asked, path, twice=twice)  # type: ignore[call-overload]

    return secret


async def _stored(config: Path) -> str | None:
    store = await open_store(f"sqlite:///{config.parent}/t.db")
    found = await store.read(lambda connection: pins.stored(connection, AMINA, ""))
    assert await store.read(broken_invariants) == []
    await store.close()
    return found[0]


def test_two_people_pay_a_wallet_out(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("customers", "pay-out", "A100002", "--to", "cash")
    assert run(office, "fin.zoe", *words) == 1
    assert run(office, "fin.zoe", *words, beside="cc.ana") == 1
    assert run(office, "fin.zoe", *words, beside="fin.max") == 0
    assert run(office, "fin.zoe", *words, beside="fin.max") == 1
    assert "nothing in the wallet" in capsys.readouterr().err
    asyncio.run(_stored(office))
