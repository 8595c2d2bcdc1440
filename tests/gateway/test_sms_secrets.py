"""PINs and vouchers in long messages: nowhere legible in the database, while parts wait, after it, after a time-out.

The product on a database of each kind, with a message centre on a real socket. Of SQLite the files are searched, of
PostgreSQL every row of every table, whatever tables there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from channels.smpp.message_centre import Account, CentreSettings, Fault, MessageCentre
from config.kinds import Secret
from config.settings import (
    DatabaseSettings,
    DeliverySettings,
    GatewaySettings,
    HttpSettings,
    LinksSettings,
    LogSettings,
    PinSettings,
    Settings,
    SmppSettings,
    StsSettings,
    VoucherSettings,
)
from gateway import app
from gateway.metrics import Metrics
from gateway.partseal import NONCE_BYTES, PartSeal
from gateway.smsbooks import StoredParts
from gateway.world import RealWorld
from ledger import pins, tables
from ledger.sms_parts import AssemblyState, PartRow
from ledger.sms_tables import sms_assembly, sms_part
from ledger.store import open_store
from ledger.vouchernumbers import completed
from tests.bench.service import PASSWORD, SYSTEM_ID, set_up
from tests.channels.smpp.rig import until
from tests.channels.test_sms import rude_parts
from tests.simulation import utility
from tests.simulation.utility import SHORT_CODE, Customer

KEY = "a key of the tests, 32 octets and more"
PIN, NEW_PIN = "720951", "580274"
VOUCHER = completed("583920174466", KEY)  # of the right form; none is about


def settings_of(url: str, folder: Path, port: int, part_timeout_s: float, key: str = KEY) -> Settings:
    keystore = folder / "keys.json"
    utility.seal_keystore(keystore)
    return Settings(
        gateway=GatewaySettings(node="one"),
        utility=utility.SETTINGS,
        database=DatabaseSettings(url=url),
        delivery=DeliverySettings(poll_every_s=0.1, retry_min_s=0.05, retry_max_s=0.1),
        links=LinksSettings(part_timeout_s=part_timeout_s),
        pins=PinSettings(key=Secret(key), customers="always" if key else "off"),
        vouchers=VoucherSettings(taken=bool(key)),
        sts=StsSettings(keystore=str(keystore), master_key=Secret(utility.MASTER_KEY.hex())),
        http=HttpSettings(port=0),
        log=LogSettings(level="ERROR", format="text"),
        smpp=(
            SmppSettings(
                name="smsc",
                host="127.0.0.1",
                port=port,
                system_id=SYSTEM_ID,
                password=Secret(PASSWORD),
                source_addr=SHORT_CODE,
                reconnect_min_s=0.05,
            ),
        ),
    )


@asynccontextmanager
async def message_centre() -> AsyncIterator[MessageCentre]:
    centre = MessageCentre(CentreSettings(accounts=(Account(SYSTEM_ID, PASSWORD),), redeliver_after_s=0.2))
    await centre.start()
    try:
        yield centre
    finally:
        await centre.stop()


@asynccontextmanager
async def node(settings: Settings) -> AsyncIterator[app.Gateway]:
    """A start of the gateway; on leaving it is stopped."""
    async with app.opened(settings, RealWorld(), Metrics()) as gateway:
        serving = asyncio.create_task(gateway.run())
        try:
            await until(gateway.sms.is_up)
            yield gateway
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def everything(url: str) -> bytes:
    """All that is kept: the octets of the files, or of every value in every row."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    store = await open_store(url)

    def dump(connection: sa.Connection) -> bytes:
        names = sa.inspect(connection).get_table_names()
        assert {"sms_part", "request", "outbox", "purchase", "audit"} <= set(names)
        found = []
        for name in names:
            for row in connection.execute(sa.text(f'SELECT * FROM "{name}"')):
                found += [value if isinstance(value, bytes) else str(value).encode() for value in row]
        return b"\n".join(found)

    try:
        return await store.read(dump)
    finally:
        await store.close()


async def legible(url: str, *secrets: str) -> list[str]:
    """Which of these stand in what is kept, in a form that one of the ways to write them has."""
    kept = await everything(url)
    small = kept.lower()
    found = []
    for secret in secrets:
        forms = [secret.encode(coding) for coding in ("ascii", "utf-16-be", "utf-16-le")]
        if any(form in kept or form.hex().encode() in small for form in forms):
            found.append(secret)
    return found


async def rows(gateway: app.Gateway, what: sa.Column[Any]) -> list[Any]:
    return await gateway.store.read(lambda c: list(c.execute(sa.select(what)).scalars()))


async def change(url: str, statement: Any) -> None:
    """Between two starts of the gateway."""
    store = await open_store(url)
    try:
        await store.transact(lambda connection: connection.execute(statement))
    finally:
        await store.close()


def deliver(centre: MessageCentre, customer: Customer, octets: bytes) -> None:
    centre.deliver_octets(customer.msisdn, SHORT_CODE, octets, 8, esm_class=0x40)


def in_two(words: str, secret: str, reference: int) -> list[bytes]:
    """A text that ends with a secret, in two parts; the second is the secret alone."""
    return rude_parts(f"{words} {secret}", 2 * (len(words) + 1), reference)


async def test_no_pin_and_no_voucher_is_legible_in_what_is_kept(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url, secrets = database_url, (PIN, NEW_PIN, VOUCHER)
    buyer, torn, refused = await set_up(url, tmp_path / "utility", 3)
    for each in (buyer, refused):
        hashed = pins.pin_hash(PIN, each.msisdn, KEY, bytes(16))
        await change(url, tables.phone.update().where(tables.phone.c.msisdn == each.msisdn).values(pin=hashed))

    async with message_centre() as centre:
        settings = settings_of(url, tmp_path, centre.port, 300.0)
        first, second = in_two(f"{buyer.drn} 500 pin", PIN, 7)
        _, half_of_voucher = in_two(f"voucher {torn.drn}", VOUCHER, 8)
        async with node(settings) as gateway:
            deliver(centre, buyer, second)
            deliver(centre, torn, half_of_voucher)
            await asyncio.wait_for(centre.drained(), 60)
            assert [bool(name) for name in await rows(gateway, sms_part.c.sealed_by)] == [True, True]
            assert await legible(url, *secrets) == [], "parts wait"
        # Started again: one message becomes whole, the time of the other is up.
        long_ago = RealWorld().now() - timedelta(hours=1)
        of_torn = sa.select(sms_part.c.assembly_id).where(sms_part.c.sender == torn.msisdn)
        await change(url, sms_assembly.update().where(sms_assembly.c.id.in_(of_torn)).values(first_at=long_ago))
        async with node(settings) as gateway:
            deliver(centre, buyer, first)
            assert "Token" in (await asyncio.wait_for(centre.next_reply(buyer.msisdn), 60)).text
            assert "Part of" in (await asyncio.wait_for(centre.next_reply(torn.msisdn), 60)).text
            assert await legible(url, *secrets) == [], "bought, and told that a part is missing"
            for words, secret in ((f"pin {PIN}", NEW_PIN), (f"{torn.drn} voucher", VOUCHER)):
                for part in in_two(words, secret, 9):
                    deliver(centre, buyer, part)
                told = (await asyncio.wait_for(centre.next_reply(buyer.msisdn), 60)).text
                assert "Token" not in told and "Part of" not in told
            centre.arm(Fault.REFUSE_SUBMIT)
            for part in in_two(f"{refused.drn} 700 pin", PIN, 10):
                deliver(centre, refused, part)
            async with asyncio.timeout(60):
                while "DEAD" not in await rows(gateway, tables.outbox.c.state):
                    await asyncio.sleep(0.02)
            assert set(await rows(gateway, sms_part.c.octets)) == {b""}
            assert sorted(set(await rows(gateway, sms_assembly.c.state))) == ["DONE", "TOLD"]
            assert await legible(url, *secrets) == [], "changed, redeemed, given up"
    for secret in secrets:
        assert secret not in caplog.text


async def test_without_a_key_there_are_no_pins_and_parts_wait_as_they_came(database_url: str, tmp_path: Path) -> None:
    """Also shows that the search finds what is there."""
    (customer,) = await set_up(database_url, tmp_path / "utility", 1)
    async with message_centre() as centre:
        async with node(settings_of(database_url, tmp_path, centre.port, 300.0, key="")) as gateway:
            deliver(centre, customer, in_two(f"{customer.drn} 500 pin", PIN, 7)[1])
            await asyncio.wait_for(centre.drained(), 60)
            assert await rows(gateway, sms_part.c.sealed_by) == [""]
            assert await legible(database_url, PIN, NEW_PIN) == [PIN]


def part(number: int = 1, octets: bytes = b"0401") -> PartRow:
    return PartRow(number, "254711013579", SHORT_CODE, 0, octets, "", "", digest=octets)


async def test_what_another_key_has_sealed_is_torn_and_not_read_for_something_else(database_url: str) -> None:
    store, world = await open_store(database_url), RealWorld()
    try:
        old, new = (StoredParts(store, world, 300.0, key) for key in (KEY, KEY + "x"))
        await old.keep("k" * 32, "smsc", 2, part(1))
        whole = await old.keep("k" * 32, "smsc", 2, part(2, b" 500"))
        assert whole.is_whole and [each.octets for each in whole.parts] == [b"0401", b" 500"]
        (found,) = await new.left(timedelta(0))
        assert not found.is_whole and b"0401" not in found.parts[0].octets and found.parts[0].sender == "254711013579"
        (found,) = await old.left(timedelta(0))
        assert found.is_whole
        await old.settle(found.id, AssemblyState.DONE)
        again = await old.keep("k" * 32, "smsc", 2, part(1))
        assert (again.id, again.state, again.parts[0].octets) == (found.id, AssemblyState.DONE, b"")
    finally:
        await store.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"number": 2},
        {"sender": "254711013570"},
        {"destination": "1"},
        {"data_coding": 8},
        {"shifts": "1 0"},
        {"reference": "other"},
        {"octets": bytes(40)},
        {"octets": b""},
        {"sealed_by": "other"},
    ],
)
def test_a_sealed_part_is_opened_as_it_was_or_not_at_all(changed: dict[str, Any]) -> None:
    seal = PartSeal(KEY)
    sealed = seal.sealed(part(), bytes(range(NONCE_BYTES)))
    assert seal.opened(sealed) == part() and sealed.digest == part().digest
    assert seal.opened(replace(sealed, **changed)) == replace(sealed, **changed)
    assert seal.sealed(part(), bytes(NONCE_BYTES)).octets != sealed.octets
