"""Pricing: examples that were published or reckoned by hand, and properties.

`ledger/byhand.py` has the rules once more, R2 to R13, in plain fractions; both must agree. The worked cases are run in
every field by tests/gateway/test_cases.py, because what surrounds pricing belongs to them.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.byhand import Reckoned, reckon
from ledger.pricing import (
    MOST_UNITS_TENTHS,
    Account,
    Block,
    Debt,
    DebtMode,
    FixedCharge,
    PercentCharge,
    Period,
    PerKwhCharge,
    Rounding,
    Sale,
    Season,
    Tariff,
    TariffVersion,
    commission,
    encodable,
    price,
)
from ledger.reasons import Reason, Refusal
from ledger.tariffs_format import read_book
from sts.amounts import field_down, field_up, units_of

VECTORS = Path(__file__).parents[1] / "vectors"
BOOK = read_book(json.loads((VECTORS / "tariffs.json").read_text()))
YEAR = tuple(range(1, 13))
NO_DEBTS_CAP = Fraction(100)


def local(written: str) -> datetime:
    """A local time, "2026-06-05T11:15"."""
    return datetime.fromisoformat(written)


def account(**changes: Any) -> Account:
    """An account that owes nothing and has bought nothing, in June 2026."""
    plain = Account(
        counter_month="2026-06",
        month_units_tenths=0,
        fixed_through_month="2026-06",
        fixed_through_date=date(2026, 6, 1),
        fixed_shortfall_minor=0,
        carry_minor=0,
        free_kwh_per_month=None,
        free_last_month="2026-06",
        debts=(),
    )
    return replace(plain, **changes)


def tariff(*versions: TariffVersion, rounding: Rounding = Rounding.UP, least: int = 1, minor_digits: int = 2) -> Tariff:
    """A tariff of these versions with wide limits."""
    return Tariff("T", "test", "01", rounding, least, 10**9, minor_digits, versions)


def version(*blocks: tuple[str | None, str], vat: str = "16", **charges: Any) -> TariffVersion:
    """A version with one season of (upto_kwh, rate) blocks."""
    season = Season(
        YEAR, tuple(Block(None if upto is None else Fraction(upto), Fraction(rate)) for upto, rate in blocks)
    )
    return TariffVersion(local("2020-01-01"), Fraction(vat), (season,), **charges)


def sold(tariff: Tariff, account: Account, amount_minor: int, at: datetime, fee_minor: int = 0) -> Sale:
    """A sale without a cap on debts."""
    return price(tariff, account, amount_minor, at, fee_minor=fee_minor, debt_cap_percent=NO_DEBTS_CAP)


# --- examples ---------------------------------------------------------------------------------------------------------


def test_single_rate_example() -> None:
    sale = sold(BOOK.tariffs["D1-FLAT"], account(), 123_400, local("2026-06-05T11:15"))
    assert (sale.units_tenths, sale.energy_vat_minor, sale.energy_net_minor) == (558, 17_021, 106_379)
    assert float(sale.units_exact) == pytest.approx(55.754, abs=5e-4)


def test_blocks_example_fills_the_first_block_and_goes_on_in_the_second() -> None:
    sale = sold(BOOK.tariffs["D2-IBT"], account(month_units_tenths=423), 80_000, local("2026-06-05"))
    assert [f"{float(kwh):.3f}" for kwh in sale.block_kwh] == ["7.700", "36.537", "0.000", "0.000"]
    assert (sale.units_tenths, sale.month_units_after_tenths) == (443, 866)


def test_blocks_in_the_middle_are_filled_from_their_own_beginning() -> None:
    # 40 kWh of block 1 are left, then all 100 of block 2, then block 3 until the money ends.
    g = [Fraction(rate) * Fraction("1.16") for rate in ("12.22", "16.30", "19.08")]
    money = 40 * g[0] + 100 * g[1] + 25 * g[2]
    amount = math.ceil(money * 100)
    sale = sold(BOOK.tariffs["D2-IBT"], account(month_units_tenths=100), amount, local("2026-06-05"))
    assert list(sale.block_kwh[:2]) == [40, 100]
    assert 25 <= sale.block_kwh[2] < Fraction("25.001")
    assert sale.block_kwh[3] == 0


def test_money_that_fills_a_block_exactly_buys_nothing_of_the_next() -> None:
    tiers = tariff(version(("10", "1.00"), (None, "2.00"), vat="0"))
    sale = sold(tiers, account(), 1_000, local("2026-06-05"))
    assert list(sale.block_kwh) == [10, 0]
    assert sale.units_tenths == 100


def test_monthly_charge_example_takes_all_and_remembers_the_rest() -> None:
    open_since_march = account(fixed_through_month="2026-03", counter_month="2026-05")
    sale = sold(BOOK.tariffs["D3-LEVY"], open_since_march, 20_000, local("2026-06-02T08:00"))
    assert (sale.fixed_minor, sale.fixed_shortfall_after_minor) == (20_000, 32_200)
    assert (sale.units_tenths, sale.amount_field) == (0, None)
    assert sale.after.fixed_through_month == "2026-06"


def test_remainder_example_is_carried() -> None:
    # 2,355.00 buys 108.2759 kWh at 18.75 and 16 %: 108.2 for 2,353.35, and 1.65 is kept.
    before = account(fixed_through_date=date(2026, 9, 20))
    sale = sold(BOOK.tariffs["C1-SEASON"], before, 250_000, local("2026-09-30T10:00"))
    assert f"{float(sale.units_exact):.4f}" == "108.2759"
    assert (sale.units_tenths, sale.energy_gross_minor, sale.carry_out_minor) == (1082, 235_335, 165)


def test_two_debts_example() -> None:
    debts = (
        Debt("B", 2, DebtMode.PERCENT, 300_000, 0, Fraction(30), True, 0),
        Debt("A", 1, DebtMode.FIXED, 1_500_000, 12_500, Fraction(0), True, 0),
    )
    sale = sold(BOOK.tariffs["D1-FLAT"], account(debts=debts), 60_000, local("2026-06-03"))
    assert sale.debts_minor == {"A": 12_500, "B": 18_000}
    assert (sale.energy_gross_minor, sale.units_tenths) == (29_500, 134)
    assert [debt.id for debt in sale.after.debts] == ["B", "A"]


def test_first_charge_example_leaves_a_fifth_for_energy() -> None:
    fine = Debt("F", 0, DebtMode.FIRST, 605_260, 0, Fraction(0), True, 0)
    sale = price(
        BOOK.tariffs["D1-FLAT"],
        account(debts=(fine,)),
        60_000,
        local("2026-06-03"),
        fee_minor=0,
        debt_cap_percent=Fraction(80),
    )
    assert (sale.debt_total_minor, sale.energy_gross_minor, sale.units_tenths) == (48_000, 12_000, 55)


def test_published_example_of_a_tariff_with_levies() -> None:
    # Kenya, 500 shillings, 150 fixed, 2.50 energy, levies taxed and not, 5 % of energy, 16 % tax; published: 32.3 kWh.
    rules = version(
        (None, "2.50"),
        per_kwh_charges=(
            PerKwhCharge("FUEL", Fraction("5.71"), True),
            PerKwhCharge("FOREX", Fraction("0.17"), True),
            PerKwhCharge("INFLATION", Fraction("0.05"), False),
            PerKwhCharge("OTHER", Fraction("0.21"), False),
        ),
        percent_charges=(PercentCharge("RURAL", Fraction(5), False),),
        fixed_charges=(FixedCharge("FIXED", Period.MONTH, Fraction(150)),),
    )
    sale = sold(tariff(rules), account(fixed_through_month="2026-05"), 50_000, local("2026-06-03"))
    assert f"{float(sale.units_exact):.3f}" == "32.259"


def test_published_example_of_a_lifeline_tariff_with_a_service_fee() -> None:
    # Uganda, 20,000 with 18 % tax inside, fee 3,360 without tax, 15 kWh at 250, the rest at 750.90; published: 28.1.
    rules = version(
        ("15", "250"), (None, "750.90"), vat="18", fixed_charges=(FixedCharge("FEE", Period.MONTH, Fraction(3360)),)
    )
    before = account(fixed_through_month="2026-05")
    sale = sold(tariff(rules, minor_digits=0), before, 20_000, local("2026-06-03"))
    assert f"{float(sale.units_exact):.3f}" == "28.103"


@pytest.mark.parametrize(
    ("amount_minor", "fee_minor", "reason", "values"),
    [
        (1_999, 0, Reason.AMOUNT_MIN, {"min_minor": 2_000}),
        (5_000_001, 0, Reason.AMOUNT_MAX, {"max_minor": 5_000_000}),
        (3_000, 3_000, Reason.AMOUNT_MIN, {"min_minor": 3_001}),
        (0, 3_000, Reason.AMOUNT_MIN, {"min_minor": 3_001}),
        (-5, 0, Reason.AMOUNT_MIN, {"min_minor": 2_000}),
    ],
)
def test_amount_outside_the_limits_is_refused_with_an_amount_that_would_do(
    amount_minor: int, fee_minor: int, reason: Reason, values: dict[str, int]
) -> None:
    with pytest.raises(Refusal) as caught:
        sold(BOOK.tariffs["D1-FLAT"], account(), amount_minor, local("2026-06-03"), fee_minor)
    assert (caught.value.reason, caught.value.values) == (reason, values)


def test_limits_themselves_are_sold() -> None:
    flat = BOOK.tariffs["D1-FLAT"]
    assert sold(flat, account(), 2_000, local("2026-06-03")).units_tenths == 10
    assert sold(flat, account(), 5_000_000, local("2026-06-03")).units_tenths == 22_594
    assert sold(flat, account(), 3_001, local("2026-06-03"), fee_minor=3_000).units_tenths == 1


def test_purchase_that_no_token_can_carry_is_refused() -> None:
    cheap = tariff(version((None, "0.01"), vat="0"))
    most = MOST_UNITS_TENTHS // 10
    assert sold(cheap, account(), most, local("2026-06-03")).units_tenths <= MOST_UNITS_TENTHS
    with pytest.raises(Refusal) as caught:
        sold(cheap, account(), most + 1, local("2026-06-03"))
    assert caught.value.reason is Reason.AMOUNT_MAX


def test_money_taken_before_the_first_version_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        sold(BOOK.tariffs["D1-FLAT"], account(), 10_000, local("2025-12-31T23:59:59"))
    assert caught.value.reason is Reason.TARIFF_MISSING


def test_version_is_the_one_in_force_when_the_money_was_taken() -> None:
    flat = BOOK.tariffs["D1-FLAT"]
    for at, name in [
        (local("2026-01-01"), "2026-01-01T00:00:00"),
        (local("2026-06-30T23:59:59.999999"), "2026-01-01T00:00:00"),
        (local("2026-07-01"), "2026-07-01T00:00:00"),
    ]:
        assert sold(flat, account(), 10_000, at).tariff_version == name
        found = flat.version_at(at)
        assert found is not None and found.name == name
    assert flat.version_at(local("2025-12-31")) is None


def test_season_follows_the_local_month() -> None:
    seasonal = BOOK.tariffs["C1-SEASON"]
    at_may = sold(seasonal, account(), 10_000, local("2026-05-31T23:59")).units_exact
    at_june = sold(seasonal, account(), 10_000, local("2026-06-01")).units_exact
    assert at_may / at_june == Fraction("24.10") / Fraction("18.75")


def test_new_month_starts_the_counter_and_the_instalment_again() -> None:
    debt = Debt("A", 1, DebtMode.FIXED, 100_000, 5_000, Fraction(0), True, 0)
    suspended = Debt("S", 0, DebtMode.FIRST, 100_000, 0, Fraction(0), False, 700)
    tiers = BOOK.tariffs["D2-IBT"]
    first = sold(tiers, account(debts=(debt, suspended)), 40_000, local("2026-06-30T23:59"))
    again = sold(tiers, first.after, 40_000, local("2026-06-30T23:59"))
    july = sold(tiers, again.after, 40_000, local("2026-07-01"))
    assert [sale.debts_minor for sale in (first, again, july)] == [{"A": 5_000}, {}, {"A": 5_000}]
    assert again.month_units_after_tenths == first.units_tenths + again.units_tenths
    assert july.units_tenths == first.units_tenths == july.month_units_after_tenths
    assert july.after.debts[1].recovered_this_month_minor == 0
    assert july.after.debts[1].outstanding_minor == 100_000


def test_daily_charge_is_taken_once_a_day_and_never_goes_back() -> None:
    daily = BOOK.tariffs["C1-SEASON"]
    first = sold(daily, account(fixed_through_date=date(2026, 2, 27)), 50_000, local("2026-03-01T09:00"))
    assert first.fixed_minor == 2_900
    second = sold(daily, first.after, 50_000, local("2026-03-01T23:00"))
    assert second.fixed_minor == 0
    late = sold(daily, second.after, 50_000, local("2026-02-28T09:00"))
    assert late.fixed_minor == 0
    assert late.after.fixed_through_date == date(2026, 3, 1)


def test_shortfall_is_asked_for_also_when_the_tariff_has_no_fixed_charge_any_more() -> None:
    sale = sold(BOOK.tariffs["D1-FLAT"], account(fixed_shortfall_minor=4_000), 10_000, local("2026-06-03"))
    assert (sale.fixed_minor, sale.fixed_vat_minor, sale.fixed_shortfall_after_minor) == (4_000, 552, 0)


def test_carry_pays_for_energy_only() -> None:
    before = account(fixed_shortfall_minor=20_000, carry_minor=5_000)
    sale = sold(BOOK.tariffs["D1-FLAT"], before, 10_000, local("2026-06-03"))
    assert (sale.fixed_minor, sale.fixed_shortfall_after_minor) == (10_000, 10_000)
    assert (sale.energy_gross_minor, sale.carry_in_minor, sale.carry_out_minor) == (5_000, 5_000, 0)


def test_free_units_come_once_a_month_beside_the_counter() -> None:
    flat = BOOK.tariffs["D1-FLAT"]
    first = sold(flat, account(free_kwh_per_month=50, free_last_month="2026-05"), 10_000, local("2026-06-03"))
    second = sold(flat, first.after, 10_000, local("2026-06-04"))
    july = sold(flat, second.after, 10_000, local("2026-07-01"))
    assert [sale.free_units_tenths for sale in (first, second, july)] == [500, 0, 500]
    assert [sale.free_amount_field for sale in (first, second)] == [500, None]
    assert first.month_units_after_tenths == first.units_tenths


def test_time_zone_of_the_local_time_is_not_looked_at() -> None:
    flat = BOOK.tariffs["D1-FLAT"]
    naive = local("2026-06-30T23:59")
    aware = datetime.fromisoformat("2026-06-30T23:59:00+03:00")
    assert sold(flat, account(), 10_000, aware) == sold(flat, account(), 10_000, naive)


def test_commission_is_rounded_half_up() -> None:
    assert commission(30_000, Fraction(2)) == 600
    assert commission(25, Fraction(2)) == 1
    assert commission(24, Fraction(2)) == 0
    assert commission(10_000, Fraction("0.75")) == 75


# --- units on a token -------------------------------------------------------------------------------------------------

ENCODABLE = [
    # (units, up, (units on the token, 16-bit field))
    (0, True, (0, 0)),
    (16_383, True, (16_383, 16_383)),
    (16_384, True, (16_384, 0x4000)),
    (17_001, True, (17_004, 0x403E)),
    (17_001, False, (16_994, 0x403D)),
    (180_214, True, (180_214, 0x7FFF)),
    (180_215, True, (180_224, 0x8000)),
    (180_223, False, (180_214, 0x7FFF)),
    (1_818_524, True, (1_818_524, 0xBFFF)),
    (1_818_525, True, (1_818_624, 0xC000)),
    (MOST_UNITS_TENTHS, True, (18_201_624, 0xFFFF)),
    (MOST_UNITS_TENTHS + 1, False, (18_201_624, 0xFFFF)),
]


@pytest.mark.parametrize(("units", "up", "expected"), ENCODABLE)
def test_units_are_rounded_to_what_a_token_can_carry(units: int, up: bool, expected: tuple[int, int]) -> None:
    assert encodable(units, up=up) == expected


def test_more_units_than_a_token_can_carry_are_an_error_upward() -> None:
    with pytest.raises(ValueError, match="18201624"):
        encodable(MOST_UNITS_TENTHS + 1, up=True)


@given(st.integers(0, MOST_UNITS_TENTHS), st.booleans())
def test_units_agree_with_the_token_package(units: int, up: bool) -> None:
    field = field_up(units) if up else field_down(units)
    assert encodable(units, up=up) == (units_of(field), field)


# --- the rules once more, by hand -------------------------------------------------------------------------------------


def decimals(least: int, most: int, places: int) -> st.SearchStrategy[Fraction]:
    """Decimal numbers with so many places."""
    return st.integers(least * 10**places, most * 10**places).map(lambda number: Fraction(number, 10**places))


RATES = decimals(0, 40, 4)
PERCENTS = decimals(0, 30, 2)


@st.composite
def versions(draw: st.DrawFn, start: datetime) -> TariffVersion:
    def blocks() -> tuple[Block, ...]:
        limits = sorted(draw(st.sets(decimals(1, 600, draw(st.sampled_from([0, 1, 3]))), max_size=3)))
        rate = RATES.map(lambda rate: rate + 4)  # so that no purchase exceeds what a token can carry
        return tuple(Block(limit, draw(rate)) for limit in [*limits, None])

    winter = draw(st.sets(st.integers(1, 12), min_size=1, max_size=11))
    summer = set(YEAR) - winter
    charges = draw(st.lists(st.tuples(RATES, st.booleans()), max_size=3))
    shares = draw(st.lists(st.tuples(PERCENTS, st.booleans()), max_size=2))
    fixed = draw(st.lists(st.tuples(st.sampled_from(Period), decimals(0, 300, 2)), max_size=2))
    return TariffVersion(
        start,
        draw(st.sampled_from([Fraction(16), Fraction(0), Fraction("7.5"), Fraction(18)])),
        (Season(tuple(winter), blocks()), Season(tuple(summer), blocks())),
        tuple(PerKwhCharge(f"K{n}", rate, vatable) for n, (rate, vatable) in enumerate(charges)),
        tuple(PercentCharge(f"P{n}", share, vatable) for n, (share, vatable) in enumerate(shares)),
        tuple(FixedCharge(f"F{n}", period, amount) for n, (period, amount) in enumerate(fixed)),
    )


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    return tariff(
        draw(versions(local("2020-01-01"))),
        draw(versions(local("2026-06-15T12:00"))),
        rounding=draw(st.sampled_from(Rounding)),
        minor_digits=draw(st.sampled_from([2, 2, 0, 3])),
    )


DEBTS = st.lists(
    st.builds(
        Debt,
        id=st.sampled_from("ABCDEF"),
        priority=st.integers(0, 2),
        mode=st.sampled_from(DebtMode),
        outstanding_minor=st.integers(0, 300_000),
        instalment_minor=st.integers(0, 20_000),
        percent=PERCENTS,
        active=st.booleans(),
        recovered_this_month_minor=st.integers(0, 20_000),
    ),
    max_size=3,
    unique_by=lambda debt: debt.id,
)
MOMENTS = st.datetimes(local("2026-04-01"), local("2026-08-31"))
ACCOUNTS = st.builds(
    Account,
    counter_month=st.sampled_from(["2026-05", "2026-06", "2026-07"]),
    month_units_tenths=st.integers(0, 8_000),
    fixed_through_month=st.sampled_from(["2025-11", "2026-05", "2026-06"]),
    fixed_through_date=st.dates(date(2026, 3, 1), date(2026, 7, 31)),
    fixed_shortfall_minor=st.just(0) | st.integers(0, 50_000),
    carry_minor=st.integers(0, 400),
    free_kwh_per_month=st.none() | st.integers(0, 60),
    free_last_month=st.sampled_from(["", "2026-05", "2026-06"]),
    debts=DEBTS.map(tuple),
)
AMOUNTS = st.integers(1, 5_000_000) | st.integers(1, 200_000)
CAPS = st.sampled_from([Fraction(80), Fraction(100), Fraction(0), Fraction("33.3")])


@settings(max_examples=300)
@given(tariffs(), ACCOUNTS, AMOUNTS, MOMENTS, st.just(0) | st.integers(0, 5_000), CAPS)
def test_whole_numbers_give_what_fractions_give(
    tariff: Tariff, account: Account, amount: int, at: datetime, fee: int, cap: Fraction
) -> None:
    if fee >= amount:
        amount += fee
    expected = reckon(tariff, account, amount, at, fee_minor=fee, debt_cap_percent=cap)
    sale = price(tariff, account, amount, at, fee_minor=fee, debt_cap_percent=cap)
    assert expected == Reckoned(
        tariff_version=sale.tariff_version,
        fee_vat_minor=sale.fee_vat_minor,
        debts_minor=sale.debts_minor,
        fixed_minor=sale.fixed_minor,
        fixed_vat_minor=sale.fixed_vat_minor,
        fixed_shortfall_after_minor=sale.fixed_shortfall_after_minor,
        energy_gross_minor=sale.energy_gross_minor,
        carry_out_minor=sale.carry_out_minor,
        units_exact=sale.units_exact,
        units_tenths=sale.units_tenths,
        block_kwh=sale.block_kwh,
        charges_minor=sale.charges_minor,
        energy_vat_minor=sale.energy_vat_minor,
        energy_net_minor=sale.energy_net_minor,
        month_units_after_tenths=sale.month_units_after_tenths,
        free_units_tenths=sale.free_units_tenths,
        lines=expected.lines,
    )
    assert "NOT the payment" not in expected.lines[-1]
    assert sale.amount_field == (field_up(sale.units_tenths) if sale.units_tenths else None)


@given(tariffs(), ACCOUNTS, st.lists(st.tuples(AMOUNTS, MOMENTS), min_size=1, max_size=6), CAPS)
def test_parts_sum_to_the_payment_after_any_history(
    tariff: Tariff, account: Account, purchases: list[tuple[int, datetime]], cap: Fraction
) -> None:
    debts_before = sum(debt.outstanding_minor for debt in account.debts)
    recovered = 0
    for amount, at in purchases:
        sale = price(tariff, account, amount, at, fee_minor=0, debt_cap_percent=cap)
        assert amount == (
            sale.fee_minor
            + sum(sale.debts_minor.values())
            + sale.fixed_minor
            + sale.energy_net_minor
            + sale.energy_vat_minor
            + sale.charges_total_minor
            + sale.carry_out_minor
            - sale.carry_in_minor
        )
        assert sale.debt_total_minor <= amount * cap / 100
        assert sale.carry_out_minor >= 0
        assert sale.after.counter_month == at.strftime("%Y-%m")
        assert sale.after.fixed_through_month >= account.fixed_through_month
        assert sale.after.fixed_through_date >= account.fixed_through_date
        assert all(debt.outstanding_minor >= 0 for debt in sale.after.debts)
        if tariff.units_rounding is Rounding.UP:
            assert sale.carry_out_minor == 0
            assert Fraction(sale.units_tenths, 10) >= sale.units_exact
        else:
            assert Fraction(sale.units_tenths, 10) <= sale.units_exact
        recovered += sale.debt_total_minor
        account = sale.after
    assert sum(debt.outstanding_minor for debt in account.debts) == debts_before - recovered


@given(tariffs(), ACCOUNTS, AMOUNTS, AMOUNTS, MOMENTS)
def test_purchase_in_another_month_is_priced_as_if_nothing_had_been_bought(
    tariff: Tariff, account: Account, before: int, amount: int, at: datetime
) -> None:
    debtless = replace(account, debts=(), fixed_shortfall_minor=0, carry_minor=0)
    fixed_done = replace(debtless, fixed_through_month="2027-01", fixed_through_date=date(2027, 1, 1))
    earlier = sold(tariff, fixed_done, before, local("2026-03-31T23:59"))
    bought = replace(earlier.after, carry_minor=0)
    fresh = replace(fixed_done, counter_month=at.strftime("%Y-%m"), month_units_tenths=0)
    assert sold(tariff, bought, amount, at).units_exact == sold(tariff, fresh, amount, at).units_exact
