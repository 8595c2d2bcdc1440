"""MACs and key change under the ZMK: a new key works at once, through a restart, and when our yes was lost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from Crypto.Cipher import DES3

from channels.iso8583 import mac
from channels.iso8583.errors import KeyRefused
from channels.iso8583.keymodule import Use
from channels.iso8583.mac import Algorithm
from channels.iso8583.message import Message
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys, kcv_of
from config.kinds import Secret as Hidden
from config.money import BankSettings
from gateway.bank import peers
from ledger import banks
from tests.gateway.bank.switch import BANK, Bank, Line, network, open_bank, purchase, reversal, tokens
from tests.simulation.shop import Counter, open_counter

ZMK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
OLD = bytes.fromhex("1C587F1C13924FEF1C587F1C13924FED")
NEW = bytes.fromhex("2C497F8CA26B40BA7F20D3C8B0E9D631")
PROFILE = """extends = "atm87"
name = "mac"
[mac]
alg = "x919"
key_handle = "atm87.zak"
skip_mti = ["0800", "0810"]
"""


def odd(raw: bytes) -> bytes:
    """With odd parity."""
    return bytes((octet & 0xFE) | (not (octet >> 1).bit_count() % 2) for octet in raw)


def wrapped(raw: bytes) -> str:
    """A key under the ZMK, as a message carries it."""
    return "X" + DES3.new(ZMK, DES3.MODE_ECB).encrypt(raw).hex().upper() + kcv_of("des", raw)


OLD, NEW = odd(OLD), odd(NEW)


@pytest.fixture
async def counter(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Counter]:
    shutil.copyfile(migrated_file, tmp_path / "test.db")
    async with open_counter(f"sqlite:///{tmp_path}/test.db") as opened:
        yield opened
        await opened.check_books()


@pytest.fixture
def settings(tmp_path: Path) -> BankSettings:
    (tmp_path / "mac.toml").write_text(PROFILE)
    return replace(BANK, profile=str(tmp_path / "mac.toml"), zmk=Hidden(ZMK.hex()), zak=Hidden(wrapped(OLD)))


def signed(bank: Bank, key: bytes) -> Callable[[Message], Message]:
    """Messages with their MAC under a key."""
    rules = bank.profile.mac
    assert rules is not None
    keys = SoftwareKeys([KeyRecord(rules.key, Use.ZAK, Secret("des", key))])
    return lambda message: mac.authenticated(
        bank.profile.packager, rules, message, lambda data: keys.mac(rules.key, Algorithm.X919, 1, data)
    )


def is_under(bank: Bank, message: Message, key: bytes) -> bool:
    """Whether a message has its MAC under this key."""
    return signed(bank, key)(message) == message


async def offer(line: Line, key: bytes, stan: int = 50) -> Message:
    """Offer a new key."""
    return await line.ask(network("101", stan, f53="0100000000000000", f125=wrapped(key)))


async def test_a_purchase_is_authenticated_both_ways(counter: Counter, settings: BankSettings) -> None:
    async with open_bank(counter, settings) as bank:
        line, old = await bank.line(), signed(bank, OLD)
        answer = await line.ask(old(purchase()))
        assert answer.get(39) == "00" and is_under(bank, answer, OLD)
        back = await line.ask(old(reversal(purchase())))
        assert back.get(39) == "00" and 128 in back.numbers and is_under(bank, back, OLD)
        for wrong in (purchase(2), signed(bank, NEW)(purchase(2))):
            refused = await line.ask(wrong)
            assert refused.get(39) == "88" and not tokens(refused)
        exposition = bank.metrics.exposition().decode()
        assert 'fault="mac_missing"} 1.0' in exposition and 'fault="mac_wrong"} 1.0' in exposition


async def test_a_new_key_is_in_use_and_outlives_a_restart(counter: Counter, settings: BankSettings) -> None:
    async with open_bank(counter, settings) as bank:
        line = await bank.line()
        assert (await offer(line, NEW)).get(39) == "00"
        old, new = signed(bank, OLD), signed(bank, NEW)
        assert is_under(bank, await line.ask(new(purchase(1))), NEW)
        assert (await line.ask(old(purchase(2, 20_000)))).get(39) == "00"  # what was under way, in its time of grace
        bank = await bank.restart()
        line = await bank.line()
        assert (await line.ask(new(purchase(1, mti="0201")))).get(39) == "00"
        counter.world.advance(seconds=121)
        assert (await line.ask(old(purchase(3)))).get(39) == "88"
        assert (await line.ask(new(purchase(3)))).get(39) == "00"
        await bank.stop()


async def test_a_key_that_is_not_right_is_refused_and_the_old_one_stays(
    counter: Counter, settings: BankSettings
) -> None:
    async with open_bank(counter, settings) as bank:
        line = await bank.line()
        text = wrapped(NEW)
        wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
        assert (await line.ask(network("101", 50, f53="0" * 16, f125=wrong))).get(39) == "88"
        assert (await line.ask(signed(bank, OLD)(purchase()))).get(39) == "00"
        assert [key.state for key in await counter.store.read(lambda c: banks.keys(c, "kcb"))] == []


async def test_a_key_whose_yes_was_lost_is_taken_when_the_bank_uses_it(
    counter: Counter, settings: BankSettings
) -> None:
    async with open_bank(counter, settings) as bank:
        await bank.stop()
        # Kept as it came, and then the process was gone: neither side knows what the other did.
        network_rules = bank.profile.network
        key_id = counter.world.new_id()
        text = wrapped(NEW)
        row = banks.KeyRow(
            key_id, "kcb", network_rules.key_handle, network_rules.zmk_handle, "X", text[1:33], text[33:], "OFFERED",
            counter.world.now(), None,
        )  # fmt: skip
        await counter.store.transact(lambda connection: banks.keep_key(connection, row))
        bank = await bank.restart()
        line, old, new = await bank.line(), signed(bank, OLD), signed(bank, NEW)
        assert is_under(bank, await line.ask(old(purchase(1))), OLD)
        assert is_under(bank, await line.ask(new(purchase(2, 20_000))), NEW)
        await bank.stop()


def test_components_make_the_zmk_and_without_a_key_for_macs_no_bank_is_served(settings: BankSettings) -> None:
    now = datetime(2026, 6, 5, tzinfo=UTC)
    profile = peers.profile_of(settings)
    parts = [bytes(range(16)), bytes(a ^ b for a, b in zip(ZMK, bytes(range(16)), strict=True))]
    split = replace(settings, zmk=Hidden("\n".join(part.hex() for part in parts)))
    one, other = peers.keys_of(settings, profile, (), now), peers.keys_of(split, profile, (), now)
    assert one is not None and other is not None and one.status() == other.status()
    with pytest.raises(KeyRefused, match=r"key atm87\.zak: zak, or a key that the bank has sent, expected"):
        peers.keys_of(replace(settings, zak=Hidden("")), profile, (), now)
    with pytest.raises(KeyRefused, match="zmk: hexadecimal digits expected"):
        peers.keys_of(replace(settings, zmk=Hidden("xyz")), profile, (), now)
