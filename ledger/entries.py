"""Balanced sets of postings: what each kind of deed posts. Pure.

A posting is (account id, signed minor units), credits positive. Every function here returns postings that sum to
zero, without zero legs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from ledger.accounts import id_of

Posting = tuple[UUID, int]


def balanced(legs: Iterable[Posting]) -> tuple[Posting, ...]:
    """The legs without zeros; fewer than two, or a sum that is not zero, is a bug."""
    postings = tuple(leg for leg in legs if leg[1] != 0)
    assert len(postings) >= 2, "a transaction has at least two postings"
    assert sum(amount for _, amount in postings) == 0, "postings do not sum to zero"
    return postings


def sale(
    *,
    payer: UUID,
    tendered_minor: int,
    tariff_code: str,
    energy_net_minor: int,
    vat_minor: int,
    charges_minor: Mapping[str, int],
    fee_net_minor: int,
    fixed_net_minor: int,
    debts_minor: int,
    carry_minor: int,
    commission_minor: int = 0,
    station_code: str = "",
    given_minor: int = 0,
) -> tuple[Posting, ...]:
    """A purchase: the payer's money to revenue, tax, levies, arrears and carry (may be negative: carry used up).

    A commission is earned beside it: an expense, owed to the station. `given_minor` is energy that is not sold but
    given in a correction, at its price.
    """
    legs = [
        (payer, -tendered_minor),
        (id_of(f"energy:{tariff_code}"), energy_net_minor),
        (id_of("tax:vat"), vat_minor),
        *((id_of(f"levy:{code}"), amount) for code, amount in charges_minor.items()),
        (id_of("fee:channels"), fee_net_minor),
        (id_of("fixed:charges"), fixed_net_minor),
        (id_of("receivable:arrears"), debts_minor),
        (id_of("carry:customers"), carry_minor),
        (id_of("given:energy"), given_minor),
    ]
    if commission_minor:
        legs.append((id_of("expense:commission"), -commission_minor))
        legs.append((id_of(f"commission:{station_code}"), commission_minor))
    return balanced(legs)


def opening(account: UUID, amount_minor: int) -> tuple[Posting, ...]:
    """A balance that an account brings along when its records are first loaded."""
    return balanced([(account, amount_minor), (id_of("opening:balances"), -amount_minor)])


def moved(source: UUID, target: UUID, amount_minor: int) -> tuple[Posting, ...]:
    """Money, or what stands for it, from one account to another."""
    return balanced([(source, -amount_minor), (target, amount_minor)])


def account_payment(
    *, source: UUID, wallet: UUID, amount_minor: int, debts_minor: int, fixed_net_minor: int, vat_minor: int
) -> tuple[Posting, ...]:
    """A payment without energy: to arrears and fixed charges with their tax, the rest to the customer's wallet."""
    return balanced(
        [
            (source, -amount_minor),
            (id_of("receivable:arrears"), debts_minor),
            (id_of("fixed:charges"), fixed_net_minor),
            (id_of("tax:vat"), vat_minor),
            (wallet, amount_minor - debts_minor - fixed_net_minor - vat_minor),
        ]
    )


def deposit(account: UUID, amount_minor: int, into: str = "clearing:bank") -> tuple[Posting, ...]:
    """Money paid to the bank or the office: into a station's float, off what it owes, or into a customer's wallet."""
    return balanced([(id_of(into), -amount_minor), (account, amount_minor)])


def settled(source: str, bank: str, paid_minor: int, fee_minor: int) -> tuple[Posting, ...]:
    """What a provider paid to the bank, and the fees it kept: both leave its clearing account."""
    return balanced(
        [
            (id_of(f"bank:{bank}"), -paid_minor),
            (id_of(f"expense:fees:{source}"), -fee_minor),
            (id_of(f"clearing:{source}"), paid_minor + fee_minor),
        ]
    )


def settlement_difference(source: str, difference_minor: int) -> tuple[Posting, ...]:
    """What a provider has more (positive) or less than our books say: put right, at the cost of the utility."""
    return balanced(
        [(id_of(f"clearing:{source}"), -difference_minor), (id_of(f"expense:settlement:{source}"), difference_minor)]
    )


def bank_paid(bank: str, amount_minor: int) -> tuple[Posting, ...]:
    """What a bank has paid (or, negative, was paid) for sales at its machines: no longer on its way."""
    return balanced([(id_of(f"bank:{bank}"), -amount_minor), (id_of(f"clearing:{bank}"), amount_minor)])


def bank_loss(bank: str, amount_minor: int) -> tuple[Posting, ...]:
    """What a bank will not pay (or, negative, has paid too much and does not want back)."""
    return balanced([(id_of("loss:banks"), -amount_minor), (id_of(f"clearing:{bank}"), amount_minor)])


def commission_paid(commission: UUID, account: UUID, amount_minor: int) -> tuple[Posting, ...]:
    """Commission that was owed to a station: into its float, or off what it owes."""
    return balanced([(commission, -amount_minor), (account, amount_minor)])


def cash_difference(account: UUID, overshort: UUID, difference_minor: int) -> tuple[Posting, ...]:
    """What a shift had too much (positive) or too little of: the station holds more, or less, than its sales say."""
    return balanced([(account, -difference_minor), (overshort, difference_minor)])


def debt_charged(kind: str, amount_minor: int) -> tuple[Posting, ...]:
    """A debt that a customer gets; tax, where there is any, was accounted for when it was invoiced."""
    return balanced([(id_of("receivable:arrears"), -amount_minor), (id_of(f"charged:{kind.lower()}"), amount_minor)])


def debt_written_off(amount_minor: int) -> tuple[Posting, ...]:
    """A debt, or part of one, that is given up."""
    return balanced([(id_of("receivable:arrears"), amount_minor), (id_of("expense:written_off"), -amount_minor)])


def carry_paid_out(wallet: UUID, amount_minor: int) -> tuple[Posting, ...]:
    """Cents that were kept for a service point, to the wallet of its customer."""
    return balanced([(id_of("carry:customers"), -amount_minor), (wallet, amount_minor)])


def reversed_of(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """The postings that undo these."""
    return balanced((account, -amount) for account, amount in postings)
