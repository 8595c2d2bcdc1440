"""Balances that accounts bring along when their records are first loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID, uuid5

import sqlalchemy as sa

from ledger import batch, books, entries, sets, tables
from ledger.accounts import id_of, kind_of
from ledger.unit import Need, Unit

_NAMESPACE = UUID("0d3a4d6b-5f0c-5a53-9a0b-9a2c3f7d1e55")
_ROWS_A_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class Opening:
    """Bring a balance in, once; a second time changes nothing. True if it was posted now.

    `name` says what balance it is, for ever: "wallet:A100001", "debt:DB-0001". `amount_minor` is signed, credits
    positive.
    """

    name: str
    account_code: str
    amount_minor: int
    business_date: date
    recorded_at: datetime

    def need(self, need: Need) -> None:
        need.accounts.append(id_of(self.account_code))
        need.transactions.append(self._txn_id)

    def decide(self, unit: Unit) -> bool:
        account = id_of(self.account_code)
        if self._txn_id in unit.postings:
            return False
        limited = kind_of(self.account_code).limited
        if limited and account not in unit.balances:
            raise KeyError(f"no account {self.account_code}")
        books.post(
            unit,
            self._txn_id,
            "opening",
            entries.opening(account, self.amount_minor),
            limited=(account,) if limited else (),
            business_date=self.business_date,
            recorded_at=self.recorded_at,
        )
        return True

    @property
    def _txn_id(self) -> UUID:
        return _txn_of(self.name)


def _txn_of(name: str) -> UUID:
    return uuid5(_NAMESPACE, name)


def bring_in(connection: sa.Connection, openings: Sequence[Opening]) -> None:
    """Post those that were not brought in yet, with the set-wise statements of a batch, in the caller's transaction.

    Raises sets.Changed if somebody else does the same at this moment.
    """
    if not openings:
        return
    need = Need()
    for opening in openings:
        opening.need(need)
    unit = sets.answered(connection, batch.fill(need))
    for opening in openings:
        opening.decide(unit)
    for statement, rows in batch.writes(unit):
        sets.run(connection, statement, rows)


def brought_in(connection: sa.Connection, openings: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The balances that were brought in already, in signed minor units by name; of these names and account codes."""
    p = tables.posting.c
    wanted = {(_txn_of(name), id_of(account_code)): name for name, account_code in openings}
    found: dict[str, int] = {}
    transactions = [txn_id for txn_id, _ in wanted]
    for start in range(0, len(transactions), _ROWS_A_STATEMENT):
        part = transactions[start : start + _ROWS_A_STATEMENT]
        for row in connection.execute(sa.select(p.txn_id, p.account_id, p.amount_minor).where(p.txn_id.in_(part))):
            name = wanted.get((row.txn_id, row.account_id))
            if name is not None:
                found[name] = row.amount_minor
    return found
