"""What a statement names and our books do not have, told to the payments: they vend, or hold it in suspense. Shell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from config.money import PaymentSettings
from gateway.desk import VendingDesk
from gateway.payments.contract import Event, PaymentState
from gateway.payments.intake import Heard
from gateway.vend import Shop
from ledger import pendingpayments
from ledger.statementmatch import Missing
from ledger.store import Store

HOW: Final = "STATEMENT"
# "254711013579 - AMINA HASSAN", "MSISDN:254711013579": the number, where the statement has it in full.
_PHONE: Final = re.compile(r"(?<![0-9*])\+?([1-9][0-9]{8,14})(?![0-9*])")


def phone_in(text: str) -> str:
    """The phone number that a statement's text holds; empty if there is none, or it is masked."""
    found = _PHONE.search(text)
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class StatementDesk:
    """Tells the payments of one source what its statement says. The same line again is the same payment."""

    shop: Shop
    store: Store
    desk: VendingDesk
    source: PaymentSettings

    async def take(self, missing: Missing) -> str:
        """What came of a line, by the payments' own name for it."""
        texts = await self.store.read(
            lambda connection: pendingpayments.of(connection, self.source.name, [missing.receipt])
        )
        # What an operator's text said beside the receipt, where the statement leaves it out or masks it.
        text = texts.get(missing.receipt)
        payer, account_ref = phone_in(missing.payer), missing.account_ref
        if text is not None and text.amount_minor == missing.amount_minor:
            payer, account_ref = payer or text.payer, account_ref or text.account_ref
        event = Event(
            PaymentState(missing.said),
            missing.occurred_at,
            receipt=missing.receipt,
            our_ref=_uuid(missing.our_ref),
            payer=payer,
            account_ref=account_ref,
            amount_minor=missing.amount_minor,
            currency=missing.currency,
            detail="statement",
        )
        told = await self.store.submit(Heard(self.shop, self.source, HOW, event))
        self.desk.carry_on(told.done)
        return told.outcome


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def payment_settings(named: str, tables: tuple[PaymentSettings, ...]) -> PaymentSettings:
    """The [[payment]] table of a source; one whose only word is its statements needs none."""
    return next((one for one in tables if one.name == named), PaymentSettings(name=named, kind="statement"))
