"""A voucher redeemed in a batch: looked up, its value moved to the wallet of the phone, which is made if it is missing.

Functions of the batch they are handed (`ledger/unit.py`); they never commit. Whatever the voucher pays is bought from
that wallet in the same batch, so that voucher, money and token are one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final
from uuid import UUID

from ledger import books, entries, tables
from ledger.accounts import id_of
from ledger.reasons import Reason, Refusal
from ledger.unit import Phone, Unit, VoucherRow, VoucherTries
from ledger.voucher_unit import GIVE_WALLET

SOLD: Final = "SOLD"
USED: Final = "USED"
ISSUED: Final = "voucher:issued"
CATEGORY: Final = "PHONE"
"""The category of customers of whom nothing is known but the phone."""


@dataclass(frozen=True, slots=True)
class Redeeming:
    """By whom, when and under which request a voucher is redeemed."""

    msisdn: str
    now: datetime
    today: date  # local
    wrong_per_day_max: int

    @property
    def day(self) -> str:
        """The local day as the tries are kept."""
        return self.today.isoformat()


def found(unit: Unit, how: Redeeming, digest: str | None) -> VoucherRow:
    """The voucher of this digest, USED ones too. Refuses VOUCHER_UNKNOWN, which counts, and VOUCHER_TRIES_SPENT.

    `digest` is None for a number whose check digits are wrong.
    """
    key = (how.msisdn, how.day)
    known = unit.voucher_tries.get(key)
    tries = known.tries if known is not None else 0
    if tries >= how.wrong_per_day_max:
        raise Refusal(Reason.VOUCHER_TRIES_SPENT)
    voucher = unit.vouchers.get(digest) if digest is not None else None
    if voucher is None:
        unit.put("voucher_tries", key, VoucherTries(*key, tries + 1))
        left = how.wrong_per_day_max - tries - 1
        raise Refusal(Reason.VOUCHER_UNKNOWN, left=left) if left else Refusal(Reason.VOUCHER_TRIES_SPENT)
    if voucher.state == USED:
        return voucher
    if voucher.state != SOLD:
        raise Refusal(Reason.VOUCHER_NOT_VALID)
    if voucher.expires_on < how.today:
        raise Refusal(Reason.VOUCHER_EXPIRED, day=voucher.expires_on.isoformat())
    return voucher


def with_wallet(
    unit: Unit, phone: Phone | None, msisdn: str, account_no: str, language: str, currency: str, new_id: UUID
) -> Phone:
    """The phone with a wallet: its customer's, or that of a customer of whom only the phone is known, made now."""
    if phone is not None and phone.wallet_id is not None:
        return phone
    wallet = books.open_limited(unit, f"wallet:{account_no}", currency)
    unit.insert(tables.customer, (new_id, account_no, "-", CATEGORY, language, "ACTIVE", wallet))
    if phone is None:
        phone = Phone(msisdn)
        unit.insert(tables.phone, (msisdn, new_id, None, None, None, None, 0, None, None, None))
    else:
        unit.update(GIVE_WALLET, (msisdn, new_id))
    phone = replace(phone, customer_id=new_id, customer_language=language, wallet_id=wallet)
    unit.put("phones", msisdn, phone)
    return phone


def redeem(unit: Unit, how: Redeeming, voucher: VoucherRow, wallet: UUID, request_id: UUID, txn_id: UUID) -> None:
    """Use up a voucher: all of its value to the wallet."""
    books.post(
        unit,
        txn_id,
        "voucher",
        entries.moved(id_of(ISSUED), wallet, voucher.value_minor),
        limited=(wallet,),
        business_date=how.today,
        recorded_at=how.now,
    )
    used = replace(voucher, state=USED, used_by=how.msisdn, used_at=how.now, request_id=request_id, txn_id=txn_id)
    unit.put("vouchers", voucher.digest, used)
