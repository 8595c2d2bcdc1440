"""Requests as orders: keys that mean one purchase for ever, traces, amounts, dates without a year. Nothing waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from channels.iso8583 import shipped
from channels.iso8583.errors import IsoError
from channels.iso8583.flows import (
    Bank,
    CutOverOrder,
    ReversalOrder,
    SaleOrder,
    Totals,
    TotalsOrder,
    dated,
    order_of,
    totals_said,
)
from channels.iso8583.message import Message, Parts
from channels.iso8583.profile import Profile
from channels.iso8583.requests import Reconciliation, request_of
from ledger.reasons import Reason
from tests.channels.iso8583.records import message

ATM87 = shipped.shipped("atm87")
NOW = datetime(2026, 11, 22, 9, 30, 20, tzinfo=UTC)
NAIROBI = timezone(timedelta(hours=3))


def order(asked: Message, profile: Profile = ATM87, now: datetime = NOW, **rules: Any) -> Any:
    bank = Bank("kcb", profile, rules.pop("currency", "840"), rules.pop("minor_digits", 2), 18.0)
    return order_of(bank, "1", request_of(profile, asked), now, now.astimezone(NAIROBI))


def utc(*parts: int) -> datetime:
    """An instant."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "near", "found"),
    [
        ("1122", utc(2026, 11, 22, 12), utc(2026, 11, 22)),
        ("1231", utc(2027, 1, 1, 0, 5), utc(2026, 12, 31)),
        ("0101", utc(2026, 12, 31, 23, 55), utc(2027, 1, 1)),
        ("0229", utc(2027, 12, 1), utc(2028, 2, 29)),
        ("0229", utc(2026, 6, 1), None),
        ("1231235959", utc(2027, 1, 1), utc(2026, 12, 31, 23, 59, 59)),
        ("261122", utc(2026, 1, 1), utc(2026, 11, 22)),
        ("20261122", utc(2020, 1, 1), utc(2026, 11, 22)),
        ("261122093015", utc(2020, 1, 1), utc(2026, 11, 22, 9, 30, 15)),
        ("20261122093015", utc(2020, 1, 1), utc(2026, 11, 22, 9, 30, 15)),
        ("1322", utc(2026, 11, 22), None),
        ("11-22", utc(2026, 11, 22), None),
        ("", utc(2026, 11, 22), None),
    ],
)
def test_a_date_gets_the_year_in_which_it_is_nearest(text: str, near: datetime, found: datetime | None) -> None:
    assert dated(text, near) == found


def test_a_purchase_keeps_its_key_over_the_turn_of_the_year_and_gets_another_in_another_year() -> None:
    asked = message("atm87-purchase").having({13: "1231", 7: "1231205959"})
    keys = {
        now: order(asked, now=now).reference
        for now in (
            datetime(2026, 12, 31, 21, 0, tzinfo=UTC),
            datetime(2027, 1, 1, 6, 0, tzinfo=UTC),
            datetime(2027, 12, 31, 21, 0, tzinfo=UTC),
        )
    }
    first, repeat, other_year = keys.values()
    assert first == repeat != other_year and first.startswith("kcb/2026/")


def test_a_reversal_names_its_purchase_by_key_and_by_trace() -> None:
    sale, back = order(message("atm87-purchase")), order(message("atm87-reversal-advice"))
    assert isinstance(sale, SaleOrder) and isinstance(back, ReversalOrder)
    assert (back.reference, back.trace) == (sale.reference, sale.trace)
    assert back.key.startswith(sale.reference) and back.key != sale.reference
    assert back.is_timeout and back.is_advice and back.amount_minor == sale.amount_minor


def test_a_repeat_with_a_new_time_has_the_same_key_and_another_trace() -> None:
    first = order(message("atm87-purchase"))
    again = order(message("atm87-purchase").having({7: "1122094500"}))
    assert first.reference == again.reference and first.fingerprint == again.fingerprint and first.trace != again.trace


@pytest.mark.parametrize(
    ("fields", "rules", "reason"),
    [
        ({}, {}, None),
        ({}, {"currency": "404"}, Reason.NOT_PERMITTED),
        ({4: "000000000000"}, {}, Reason.AMOUNT_NEEDED),
        ({48: Parts([("01", "01010000001")])}, {}, Reason.METER_INVALID),
    ],
)
def test_what_cannot_be_a_purchase_is_said_why(fields: Any, rules: Any, reason: Reason | None) -> None:
    made = order(message("atm87-purchase").having({48: Parts([("01", "04012345676")])}).having(fields), **rules)
    assert made.refused is reason


@pytest.mark.parametrize(
    ("field_4", "minor_digits", "amount", "reason"),
    [
        ("3602000000050000", 2, 50_000, None),
        ("3602000000050000", 0, 500, None),
        ("3600000000000500", 2, 50_000, None),
        ("3602000000050050", 0, 0, Reason.AMOUNT_UNREADABLE),  # half a unit of a currency that has none
    ],
)
def test_amounts_with_decimals_of_their_own(field_4: str, minor_digits: int, amount: int, reason: Any) -> None:
    pln = shipped.shipped("pln2003-like")
    asked = message("pln2003-like-advice", "pln2003-like").having({4: field_4})
    made = order(asked, pln, currency="360", minor_digits=minor_digits)
    assert made.amount_minor == amount
    if reason is not None:
        assert made.refused in (reason, Reason.METER_INVALID)


@pytest.mark.parametrize("text", ["0230", "0101", "0722"])
def test_a_business_date_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(IsoError, match="field 15: a date within 31 days expected"):
        order(message("atm87-purchase").having({15: text}))


def test_a_clock_that_is_too_far_off_is_refused_where_that_is_agreed() -> None:
    strict = replace(ATM87, timing=replace(ATM87.timing, clock_skew_max_s=60))
    assert order(message("atm87-purchase"), strict).refused is None
    with pytest.raises(IsoError, match="field 7: a time within 60 s of ours expected"):
        order(message("atm87-purchase").having({7: "1122092500"}), strict)


def test_a_cut_over_needs_its_date() -> None:
    cut = message("atm87-echo").having({70: "201"})
    with pytest.raises(IsoError, match="field 15: the business date expected"):
        order(cut)
    made = order(cut.having({15: "1123"}))
    assert isinstance(made, CutOverOrder) and made.business_date == date(2026, 11, 23)


def test_totals_are_answered_with_ours() -> None:
    bcd = shipped.shipped("atm87-bcd")
    asked = request_of(bcd, message("atm87-bcd-reconciliation", "atm87-bcd"))
    assert isinstance(asked, Reconciliation)
    made = order(asked.message, bcd)
    assert isinstance(made, TotalsOrder) and made.net_minor == asked.net_minor
    told = totals_said(bcd, asked, Totals(3, 30_000, 1, 10_000, -20_000, False))
    assert told.said.fields[97] == f"D{20_000:016d}" and told.said.fields[66] == "2" and told.said.fields[76] == "3"
