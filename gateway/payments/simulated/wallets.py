"""The books of a simulated operator: phones with money, what they do when asked for a PIN, receipts, statement. Pure.

Its statement is what a test compares our books with: every payment taken, every one given back, with fee and balance.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.payments.amounts import written

_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
COLUMNS: Final = (
    "Receipt No.",
    "Completion Time",
    "Details",
    "Paid In",
    "Withdrawn",
    "Fee",
    "Balance",
    "Other Party",
    "A/C No.",
    "Linked Receipt",
    "Reference",
)


class Habit(StrEnum):
    """What the owner of a phone does when it asks for her PIN."""

    ACCEPT = "accept"
    DECLINE = "decline"
    WRONG_PIN = "wrong"
    SILENT = "silent"  # until the prompt goes away by itself
    OFF = "off"  # the phone cannot be reached
    BY_HAND = "hand"  # somebody answers, on the web phone or in a test


class End(StrEnum):
    """How a prompt ended."""

    PAID = "paid"
    NO_FUNDS = "no_funds"
    DECLINED = "declined"
    WRONG_PIN = "wrong_pin"
    EXPIRED = "expired"
    UNREACHABLE = "unreachable"


@dataclass(slots=True)
class SimulatedPhone:
    """One payer. `balance_minor` may be spent; the PIN is what she types when somebody answers by hand."""

    msisdn: str
    balance_minor: int
    habit: Habit = Habit.ACCEPT
    pin: str = "1234"


@dataclass(frozen=True, slots=True)
class Transaction:
    """One movement in the operator's books, signed from the merchant's side: what came in is positive."""

    receipt: str
    at: datetime
    details: str
    msisdn: str
    amount_minor: int
    fee_minor: int
    account_ref: str = ""
    reference: str = ""  # what the merchant named it by
    linked: str = ""  # the receipt of what it takes back


@dataclass(slots=True)
class Wallets:
    """All phones of an operator and its merchant's account. `prefix` begins all receipts, two letters mostly.

    The fee is taken from the merchant: so many hundredths of a percent, rounded down.
    """

    prefix: str = "UF"
    minor_digits: int = 2
    fee_hundredths_percent: int = 55
    opening_minor: int = 10_000_000
    habit: Habit = Habit.ACCEPT
    phones: dict[str, SimulatedPhone] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    _by_receipt: dict[str, Transaction] = field(default_factory=dict)
    _reversed: set[str] = field(default_factory=set)

    def phone(self, msisdn: str) -> SimulatedPhone:
        """The phone of this number, which everybody may have."""
        found = self.phones.get(msisdn)
        if found is None:
            found = self.phones[msisdn] = SimulatedPhone(msisdn, self.opening_minor, self.habit)
        return found

    def _receipt(self) -> str:
        number, letters = len(self.transactions) + 1, ""
        for place in range(8):
            number, rest = divmod(number, len(_ALPHABET))
            # 11 is prime to the number of letters: neighbours do not look alike, and none comes twice.
            letters = _ALPHABET[(rest * 11 + place * 7) % len(_ALPHABET)] + letters
        return self.prefix + letters

    def take(
        self, msisdn: str, amount_minor: int, at: datetime, *, details: str, account_ref: str = "", reference: str = ""
    ) -> Transaction | None:
        """A payer pays the merchant; None where she has too little."""
        assert amount_minor > 0, "amounts are above nought"
        phone = self.phone(msisdn)
        if phone.balance_minor < amount_minor:
            return None
        phone.balance_minor -= amount_minor
        fee = amount_minor * self.fee_hundredths_percent // 10_000
        return self._note(Transaction(self._receipt(), at, details, msisdn, amount_minor, fee, account_ref, reference))

    def pay_out(self, msisdn: str, amount_minor: int, at: datetime, *, reference: str) -> Transaction:
        """The merchant pays somebody."""
        assert amount_minor > 0, "amounts are above nought"
        self.phone(msisdn).balance_minor += amount_minor
        return self._note(Transaction(self._receipt(), at, "Payout", msisdn, -amount_minor, 0, reference=reference))

    def reverse(self, receipt: str, amount_minor: int, at: datetime, *, reference: str = "") -> Transaction | str:
        """Take a payment back as a whole; or why not: "unknown", "already", "amount"."""
        taken = self._by_receipt.get(receipt)
        if taken is None or taken.amount_minor <= 0:
            return "unknown"
        if receipt in self._reversed:
            return "already"
        if amount_minor != taken.amount_minor:
            return "amount"
        self._reversed.add(receipt)
        self.phone(taken.msisdn).balance_minor += amount_minor
        return self._note(
            Transaction(
                self._receipt(), at, "Reversal", taken.msisdn, -amount_minor, 0, taken.account_ref, reference, receipt
            )
        )

    def _note(self, transaction: Transaction) -> Transaction:
        self.transactions.append(transaction)
        self._by_receipt[transaction.receipt] = transaction
        return transaction

    @property
    def balance_minor(self) -> int:
        """What the merchant has with the operator, fees not yet taken off."""
        return sum(transaction.amount_minor for transaction in self.transactions)

    def statement(self, transactions: Sequence[Transaction] | None = None) -> str:
        """The statement as CSV, all of it or these transactions: amounts in currency units, times with their zone."""
        out = io.StringIO()
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(COLUMNS)
        balance = 0
        for each in self.transactions if transactions is None else transactions:
            balance += each.amount_minor
            money = written(abs(each.amount_minor), self.minor_digits)
            lines.writerow(
                (
                    each.receipt,
                    each.at.isoformat(timespec="seconds"),
                    each.details,
                    money if each.amount_minor > 0 else "",
                    money if each.amount_minor < 0 else "",
                    written(each.fee_minor, self.minor_digits),
                    ("-" if balance < 0 else "") + written(abs(balance), self.minor_digits),
                    each.msisdn,
                    each.account_ref,
                    each.linked,
                    each.reference,
                )
            )
        return out.getvalue()
