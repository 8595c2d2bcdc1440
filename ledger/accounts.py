"""The chart of accounts: kinds, normal sides, which may not be overdrawn. Pure.

An account is found by its code, "wallet:A100001" or "tax:vat"; the part before the first colon is its kind, and the
id follows from the code. Amounts in postings are signed: a credit is positive, a debit negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final
from uuid import UUID

from ledger.columns import account_id


class Side(Enum):
    """On which side an account normally stands."""

    DEBIT = "debit"
    CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of account."""

    side: Side
    limited: bool  # never below its floor; has a balance row of its own
    about: str


# fmt: off
CHART: Final[dict[str, Kind]] = {
    "wallet":     Kind(Side.CREDIT, True,  "a customer's prepaid money"),
    "prepaid":    Kind(Side.CREDIT, True,  "prepaid money of a phone that belongs to no customer"),
    "float":      Kind(Side.CREDIT, True,  "a station's deposit, from which it sells"),
    "owed":       Kind(Side.DEBIT,  True,  "what a station on credit owes, down to its limit"),
    "clearing":   Kind(Side.DEBIT,  False, "money on its way from banks and operators"),
    "bank":       Kind(Side.DEBIT,  False, "money in the utility's own bank accounts"),
    "suspense":   Kind(Side.CREDIT, False, "money that came in and could not be placed, by source"),
    "receivable": Kind(Side.DEBIT,  False, "arrears of customers"),
    "carry":      Kind(Side.CREDIT, False, "cents kept for customers whose units are rounded down"),
    "tax":        Kind(Side.CREDIT, False, "tax collected for the state"),
    "levy":       Kind(Side.CREDIT, False, "levies collected for others"),
    "energy":     Kind(Side.CREDIT, False, "revenue of energy, by tariff"),
    "fixed":      Kind(Side.CREDIT, False, "revenue of daily and monthly charges"),
    "fee":        Kind(Side.CREDIT, False, "revenue of channel fees"),
    "commission": Kind(Side.CREDIT, False, "commission owed to stations"),
    "cash":       Kind(Side.DEBIT,  False, "cash taken in or paid out by the back office"),
    "case":       Kind(Side.CREDIT, True,  "what a correction has to give, until its token is made"),
    "loss":       Kind(Side.DEBIT,  False, "what corrections cost the utility"),
    "given":      Kind(Side.CREDIT, False, "energy given in corrections, at its price: no sale, no tax"),
    "expense":    Kind(Side.DEBIT,  False, "cost of commissions, of providers' fees, and of debts written off"),
    "charged":    Kind(Side.CREDIT, False, "the other side of debts: fees, fines, old bills, units in advance"),
    "overshort":  Kind(Side.DEBIT,  False, "cash that shifts counted too little of, or too much"),
    "voucher":    Kind(Side.CREDIT, False, "what vouchers are worth that were sold and not used"),
    "opening":    Kind(Side.CREDIT, False, "the other side of balances brought in at the start"),
}
# fmt: on


def kind_of(code: str) -> Kind:
    """The kind of the account with this code; a code outside the chart is a bug."""
    name = code.partition(":")[0]
    assert name in CHART, f"no account kind {name!r}"
    return CHART[name]


@lru_cache(maxsize=4096)
def id_of(code: str) -> UUID:
    """The id of the account with this code, which must be of a kind in the chart."""
    kind_of(code)
    return account_id(code)
