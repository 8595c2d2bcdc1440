"""Parts of long messages in a database in memory, through the functions that the product uses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from channels.contract import NotStored
from ledger import sms_parts
from ledger.all_tables import metadata
from ledger.sms_parts import Assembly, AssemblyState, PartRow
from ledger.sms_tables import sms_assembly, sms_part

KEPT = timedelta(hours=24)


class PartsInMemory:
    """Satisfies `channels.sms.PartBooks`; `away` makes it refuse everything."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(self._engine, tables=[sms_assembly, sms_part])
        self._now = now
        self._ids = 0
        self.away = False

    async def keep(self, key: str, link: str, total: int, part: PartRow) -> Assembly:
        if self.away:
            raise NotStored("away")
        self._ids += 1
        now = self._now()
        with self._engine.begin() as connection:
            return sms_parts.keep_part(
                connection,
                key=key,
                fresh=UUID(int=self._ids),
                link=link,
                total=total,
                part=part,
                now=now,
                forgotten_before=now - KEPT,
            )

    async def settle(self, assembly_id: UUID, state: AssemblyState) -> None:
        with self._engine.begin() as connection:
            sms_parts.settle(connection, assembly_id, state)

    async def left(self, quiet: timedelta) -> list[Assembly]:
        with self._engine.begin() as connection:
            return sms_parts.left(connection, quiet_since=self._now() - quiet, at_most=100)

    def states(self) -> list[str]:
        with self._engine.begin() as connection:
            return list(connection.execute(sa.select(sms_assembly.c.state).order_by(sms_assembly.c.id)).scalars())
