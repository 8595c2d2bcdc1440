"""A USSD desk over the sample utility, and a phone that dials and types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from channels.contract import Reply
from channels.ussd.steps import Kind, Page, Step
from config import languages
from config.settings import UssdSettings
from gateway.desk import Outgoing, VendingDesk
from gateway.metrics import Metrics
from gateway.ussd.desk import UssdDesk
from ledger import tables
from sts.modules.contract import SecurityModule
from tests.simulation.shop import AMINA, Counter, open_counter

SERVICE = UssdSettings(name="menu", kind="africastalking", addresses="127.0.0.1", answer_within_s=2.0)
CODE = "*384*1234#"


@dataclass
class Sent(Outgoing):
    """What delivery would send."""

    replies: list[Reply] = field(default_factory=list)

    def enqueue(self, replies: list[Reply]) -> None:
        """As `gateway.delivery.Delivery` takes them."""
        self.replies += replies


@dataclass
class Rig:
    """A desk with its counter."""

    counter: Counter
    ussd: UssdDesk
    desk: VendingDesk
    sent: Sent
    sessions: int = 0

    async def make_seller(self, msisdn: str, station_code: str) -> None:
        """From now on this phone sells for a station, beside whatever else it has."""
        s = tables.station.c

        def write(connection: sa.Connection) -> None:
            station = connection.execute(sa.select(s.id).where(s.code == station_code)).scalar_one()
            phone = tables.phone.update().where(tables.phone.c.msisdn == msisdn)
            assert connection.execute(phone.values(station_id=station)).rowcount == 1

        await self.counter.store.transact(write)

    def phone(self, msisdn: str = AMINA) -> Phone:
        """A phone that has not dialled yet."""
        return Phone(self, msisdn)


class Phone:
    """Dials and types, as a provider that sends everything typed so far tells it."""

    def __init__(self, rig: Rig, msisdn: str) -> None:
        self._rig = rig
        self.msisdn = msisdn
        self.session = ""
        self.text = ""
        self.page = Page("", True)

    async def dial(self, *path: str) -> Page:
        """A new session; `path` is dialled behind the code."""
        self._rig.sessions += 1
        self.session, self.text = f"ATUid_{self._rig.sessions}", "*".join(path)
        return await self.again()

    async def type(self, typed: str) -> Page:
        """The next input."""
        self.text = f"{self.text}*{typed}" if self.text or typed == "" else typed
        return await self.again()

    async def again(self) -> Page:
        """The same step once more."""
        self.page = await self._rig.ussd.answer(self.step())
        return self.page

    def step(self, text: str | None = None, kind: Kind = Kind.UNSAID) -> Step:
        """The step as it stands, or one with another text."""
        return Step(
            service=SERVICE.name,
            session=self.session,
            msisdn=self.msisdn,
            service_code=CODE,
            kind=kind,
            text=self.text if text is None else text,
            is_whole=True,
            mark="",
            received_at=self._rig.counter.world.now(),
        )


@asynccontextmanager
async def open_rig(url: str, module: SecurityModule | None = None, give_up_s: float = 60) -> AsyncIterator[Rig]:
    """A rig on a new database; the books are checked at the end."""
    async with open_counter(url, module, give_up_s=give_up_s) as counter:
        sent, metrics = Sent(), Metrics()
        desk = VendingDesk(counter.shop, counter.store, sent, metrics)
        ussd = UssdDesk(counter.shop, counter.store, desk, languages.load("en"), {SERVICE.name: SERVICE}, metrics)
        yield Rig(counter, ussd, desk, sent)
        await desk.close()
        await counter.check_books()
