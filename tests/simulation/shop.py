"""The sample utility in a fresh database, with keys made up for the test: a counter to buy at without any network."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

import gateway
from channels.commands import Buy, Command
from channels.contract import Inbound
from config.money import PaymentSettings
from config.settings import CustomerSettings, PurchaseSettings, Settings, StsSettings, UtilitySettings
from gateway.deeds import Arrival
from gateway.intake import load_folder
from gateway.tokens import key_text
from gateway.vend import Done, Shop
from ledger import tables
from ledger.accounts import id_of
from ledger.records import ensure_accounts
from ledger.store import Observer, Store, migrate, open_store
from ledger.trial_balance import broken_invariants
from sts.derivation import VendingKey, with_odd_parity
from sts.meterkey import MeterKey
from sts.modules.contract import SecurityModule
from sts.modules.records import VendingKeyRecord
from sts.modules.software import SoftwareModule
from tests.simulation.world import SeededWorld

SAMPLE = Path(gateway.__file__).parent / "sample"
UTILITY = UtilitySettings(
    code="UMOJA",
    name="Umoja Power",
    currency="KES",
    timezone="Africa/Nairobi",
    debt_cap_percent=Decimal(80),
)
AMINA = "254711013579"  # wallet of 1,500.00; meter 04012345676, single rate
METER = "04012345676"


def sample_keys(revision: int = 2, base_date: int = 2014) -> list[VendingKeyRecord]:
    """Vending keys for the sample's supply groups, both kinds, of one revision; made up from their names."""
    records = []
    for group in ("600801", "600802", "600803"):
        digest = hashlib.sha256(f"{group}/{revision}/{base_date}".encode()).digest()
        for key in (VendingKey(2, with_odd_parity(digest[:8])), VendingKey(4, digest[:20])):
            records.append(
                VendingKeyRecord(
                    supply_group=group,
                    key_revision=revision,
                    key_type=2,
                    base_date=base_date,
                    key_expiry=255,
                    key=key,
                )
            )
    return records


@dataclass
class Counter:
    """A shop with its store; buys, and looks into the books."""

    shop: Shop
    store: Store
    world: SeededWorld
    url: str
    _references: int = 0

    def inbound(
        self, command: Command, sender: str = AMINA, reference: str | None = None, peer: str = "smsc"
    ) -> Inbound:
        """A request as the SMS channel would make it."""
        self._references += 1
        return Inbound(
            channel="sms",
            peer=peer,
            reference=reference or f"r{self._references}",
            fingerprint=hashlib.blake2b(repr(command).encode(), digest_size=16).digest(),
            sender=sender,
            destination="20777",
            command=command,
            received_at=self.world.now(),
        )

    async def ask(self, command: Command, sender: str = AMINA, reference: str | None = None) -> Done:
        """Submit one request; what came of it."""
        return await self.store.submit(Arrival(self.shop, self.inbound(command, sender, reference)))

    async def buy(
        self,
        amount_minor: int = 50000,
        drn: str | None = METER,
        sender: str = AMINA,
        nth: int = 1,
        reference: str | None = None,
    ) -> Done:
        """Buy electricity."""
        return await self.ask(Buy(drn, amount_minor, nth), sender, reference)

    async def available(self, account_code: str) -> int:
        """What a limited account has left above its floor."""
        b = tables.limited_balance.c

        def read(connection: sa.Connection) -> int:
            row = connection.execute(
                sa.select(b.posted_minor, b.pending_minor, b.floor_minor).where(b.account_id == id_of(account_code))
            ).one()
            return int(row[0] - row[1] - row[2])

        return await self.store.read(read)

    async def count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        """How many rows a table has."""
        return await self.store.read(
            lambda connection: int(
                connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one()
            )
        )

    async def check_books(self) -> None:
        """Fail with every invariant that is broken."""
        assert await self.store.read(broken_invariants) == []


@asynccontextmanager
async def open_counter(
    url: str,
    module: SecurityModule | None = None,
    world: SeededWorld | None = None,
    give_up_s: float = 60,
    sts: StsSettings | None = None,
    observer: Observer | None = None,
    payment: tuple[PaymentSettings, ...] = (),
) -> AsyncIterator[Counter]:
    """A counter on a new database at this URL, with the sample utility loaded and these sources of money."""
    seeded = world or SeededWorld()
    settings = Settings(
        utility=UTILITY,
        sts=sts or StsSettings(),
        purchase=PurchaseSettings(give_up_s=give_up_s),
        customers=CustomerSettings(purchases_per_meter_max=0),  # many tests buy for one meter all the time
        payment=payment,
    )
    shop = Shop.of(settings, seeded, module or SoftwareModule(sample_keys()))
    await migrate(url)
    store = await open_store(url, observer=observer)
    try:
        today = shop.local(seeded.now())
        await load_folder(store, SAMPLE, UTILITY, seeded, today)
        accounts = [f"{kind}:{one.name}" for one in payment for kind in ("clearing", "suspense")]
        await store.transact(lambda connection: ensure_accounts(connection, accounts, UTILITY.currency))
        yield Counter(shop, store, seeded, url)
    finally:
        await store.close()


def handle_of(drn: str, revision: int, ea: int = 7, base_date: int = 2014, index: str = "01") -> MeterKey:
    """A meter of the sample's first supply group, under a key of this revision."""
    return MeterKey(drn, "600727", "600801", 2, index, revision, 255, base_date, ea, 2 if ea == 7 else 4)


async def wants(counter: Counter, drn: str, new: MeterKey) -> None:
    """Have the meter's key changed to this one."""
    await counter.store.transact(
        lambda connection: connection.execute(
            tables.meter.update().where(tables.meter.c.drn == drn).values(next_key=key_text(new))
        )
    )
