"""Vouchers in a batch: what a request that brings one needs, and what comes of it. Never waits.

The voucher's value goes to the wallet of the phone; a purchase is then paid from there, in the same batch. If nothing
can be sold the voucher stays as it was. The same number again, from the same phone, gets the same token again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.sale import receipt_of
from gateway.vend import Shop
from ledger import redeeming
from ledger.reasons import Reason, Refusal
from ledger.redeeming import Redeeming
from ledger.unit import Need, Phone, Unit, VoucherRow
from ledger.vouchernumbers import look_up


def digest_of(shop: Shop, number: str) -> str | None:
    """By which a voucher's number is looked up; None for one that is none, or where there are no vouchers."""
    key = shop.settings.pins.key.reveal()
    return look_up(number, key) if key and shop.settings.vouchers.taken else None


def need_digests(need: Need, shop: Shop, msisdn: str, at: datetime, digests: Iterable[str]) -> None:
    """Ask for vouchers, and for how often this phone has sent what is none."""
    need.vouchers.extend(digests)
    need.voucher_tries.append((msisdn, shop.day(at)))


def how(shop: Shop, msisdn: str, at: datetime) -> Redeeming:
    """By whom and when; the tries are those of the local day of `at`, as they were asked for."""
    return Redeeming(msisdn, shop.world.now(), shop.local(at).date(), shop.settings.vouchers.wrong_per_day_max)


def find(shop: Shop, unit: Unit, by: Redeeming, phone: Phone | None, number: str) -> VoucherRow:
    """The voucher of a number, also one that this phone has used. Raises Refusal; a number that is none counts."""
    if not shop.settings.vouchers.taken or (phone is not None and phone.station_id is not None):
        raise Refusal(Reason.VOUCHERS_NOT_TAKEN)
    voucher = redeeming.found(unit, by, digest_of(shop, number))
    if voucher.state == redeeming.USED and voucher.used_by != by.msisdn:
        raise Refusal(Reason.VOUCHER_USED)
    return voucher


def take(
    shop: Shop, unit: Unit, by: Redeeming, phone: Phone | None, voucher: VoucherRow, request_id: UUID, language: str
) -> Phone:
    """Move the voucher's value to the phone's wallet, which is made where there is none; the phone with it.

    Refuses PAYER_UNKNOWN where the wallet is closed: it takes nothing more.
    """
    if phone is not None and phone.wallet_id is not None and unit.balances[phone.wallet_id].closed_at is not None:
        raise Refusal(Reason.PAYER_UNKNOWN)
    new_id = shop.world.new_id()
    account_no = f"T{receipt_of(new_id)}"
    phone = redeeming.with_wallet(unit, phone, by.msisdn, account_no, language, shop.settings.utility.currency, new_id)
    assert phone.wallet_id is not None
    redeeming.redeem(unit, by, voucher, phone.wallet_id, request_id, shop.world.new_id())
    return phone


def wallet_values(shop: Shop, unit: Unit, msisdn: str) -> dict[str, Any]:
    """The values of a message about the phone's wallet."""
    phone = unit.phones.get(msisdn)
    wallet = phone.wallet_id if phone is not None else None
    if wallet is None:
        raise Refusal(Reason.PAYER_UNKNOWN)
    return shop.money(balance_minor=unit.balances[wallet].available_minor)
