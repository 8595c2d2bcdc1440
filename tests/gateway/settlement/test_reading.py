"""Statements read by their mappings: a table of rows for each shipped mapping, bad rows, and bad mapping files."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bulk.lines import CSV, BadFile, read_lines
from gateway.settlement.mapping import BadMapping, Form, load, read, shipped
from gateway.settlement.reading import Terms, read_row
from ledger.money import plain

NOW = datetime(2026, 6, 5, 12, 0, tzinfo=UTC)
KENYA = Terms(ZoneInfo("Africa/Nairobi"), "KES", 2, NOW, "mpesa")
UGANDA = Terms(ZoneInfo("Africa/Kampala"), "UGX", 0, NOW, "momo")


def rows(form: Form, text: str, terms: Terms, tmp_path: Path) -> list[str]:
    """Every row as one text: kind, receipt, instant, amount, fee and the references; or why there is none."""
    path = tmp_path / "statement.csv"
    path.write_text(text, encoding="utf-8")
    told = []
    for line in read_lines(path, CSV, form.expected):
        row = read_row(form, line.values, terms) if not line.fault else None
        if row is None or row.faults:
            faults = "; ".join(f"{name}: {words}" for name, words in row.faults) if row else line.fault
            told.append(f"BAD {faults}")
        elif row.line is None:
            told.append("-")
        else:
            one = row.line
            told.append(
                f"{one.kind} {one.receipt} {one.occurred_at:%m-%dT%H:%MZ} {one.day:%d} {one.amount_minor}"
                f" {one.fee_minor} {'/'.join((one.linked, one.our_ref, one.payer, one.account_ref))}"
            )
    return told


# --- the neutral form -------------------------------------------------------------------------------------------------

NEUTRAL_HEADER = "value_date,provider,provider_ref,amount,fee,our_ref\n"
# fmt: off
NEUTRAL = [
    ("2026-06-03,MPESA,UFA5XK2Q1M,500.00,2.50,", "PAYMENT UFA5XK2Q1M 06-03T09:00Z 03 50000 250 ///"),
    ("2026-06-03,mpesa,UFA7AB90ZZ,500.00,2.50,VEND-000122",
     "PAYMENT UFA7AB90ZZ 06-03T09:00Z 03 50000 250 /VEND-000122//"),
    ("2026-06-03,MTN,UFA5XK2Q1M,500.00,2.50,", "-"),
    ("2026-06-03,MPESA,UFA8,-500.00,,", "REFUND UFA8 06-03T09:00Z 03 -50000 0 ///"),
    ("2026-06-03,MPESA,,500.00,2.50,VEND-1", "PAYMENT  06-03T09:00Z 03 50000 250 /VEND-1//"),
    ("2026-06-03,MPESA,,500.00,2.50,", "BAD provider_ref: a value expected"),
    ("2026-06-03,MPESA,R1,500.001,2.50,", "BAD amount: at most 2 decimals expected, got '500.001'"),
    ('2026-06-03,MPESA,R1,"1,500.00",2.50,', "BAD amount: an amount such as 1234.50 expected, got '1,500.00'"),
    ("2026-06-03,MPESA,R1,1e3,2.50,", "BAD amount: an amount such as 1234.50 expected, got '1e3'"),
    ("2026-06-03,MPESA,R1,٥٠٠,2.50,", "BAD amount: an amount such as 1234.50 expected, got '٥٠٠'"),
    ("2026-06-03,MPESA,R1,,2.50,", "BAD amount: an amount expected"),
    ("2026-06-03,MPESA,R1,0,2.50,", "BAD : a row that no [[row]] of the mapping fits"),
    ("03/06/2026,MPESA,R1,5.00,0,",
     "BAD value_date: a time of the form %Y-%m-%d expected, got '03/06/2026'"),
    ("2026-06-30,MPESA,R1,5.00,0,",
     "BAD value_date: '2026-06-30' is no time of the past: are day and month as the form says?"),
    ("2026-06-03,MPESA,R1,5.00", "BAD as many values as columns, 6, expected, got 4"),
    ("2026-06-03,MPESA,R1,x,y,",
     "BAD amount: an amount such as 1234.50 expected, got 'x'"),
]

# --- M-Pesa -----------------------------------------------------------------------------------------------------------

MPESA_HEADER = (
    "Short Code:,600987,,,,,,,,,,,\nOpening Balance:,190000.00,,,,,,,,,,,\n\n"
    "Receipt No.,Completion Time,Initiation Time,Details,Transaction Status,Paid In,Withdrawn,Balance,"
    "Balance Confirmed,Reason Type,Other Party Info,Linked Transaction ID,A/C No.\n"
)
MPESA = [
    ("UFA5XK2Q1M,03-06-2026 12:05:01,03-06-2026 12:05:00,Pay Bill from 254711013579,Completed,500.00,,190500.00,true,"
     "Pay Bill Online,254711013579 - AMINA HASSAN,,04012345676",
     "PAYMENT UFA5XK2Q1M 06-03T09:05Z 03 50000 0 //254711013579 - AMINA HASSAN/04012345676"),
    ('UFA6,03-06-2026 23:59:59,,Pay Bill,Completed,"1,300.00",,1,true,Pay Bill,2547 - B,,x',
     "PAYMENT UFA6 06-03T20:59Z 03 130000 0 //2547 - B/x"),
    ("UFA5XK2Q1M,03-06-2026 12:05:01,,Pay Bill Charge,Completed,,-2.50,190497.50,true,Pay Utility Charge,,,",
     "FEE UFA5XK2Q1M 06-03T09:05Z 03 0 250 ///"),
    ("UFA9,03-06-2026 13:00:00,,Charge,Completed,,2.50,190497.50,true,Business Charge,,UFA5XK2Q1M,",
     "FEE UFA9 06-03T10:00Z 03 0 250 UFA5XK2Q1M///"),
    ("UFB1,03-06-2026 13:00:00,,Reversal,Completed,,500.00,1,true,Pay Bill Reversal,,UFA5XK2Q1M,",
     "REVERSAL UFB1 06-03T10:00Z 03 -50000 0 UFA5XK2Q1M///"),
    ("UFB2,04-06-2026 00:00:00,,Organization Settlement,Completed,,190000.00,0,true,"
     "Organization Settlement to Bank Account,,,",
     "PAYOUT UFB2 06-03T21:00Z 04 -19000000 0 ///"),
    ("UFB3,03-06-2026 13:00:00,,Pay Bill,Failed,500.00,,1,true,Pay Bill,,,", "-"),
    ("UFB4,03-06-2026 13:00:00,,Airtime,Completed,,10.00,1,true,Airtime Purchase,,,",
     "BAD : a row that no [[row]] of the mapping fits"),
    ("UFB5,03-06-2026 13:00:00,,Pay Bill,Completed,5.00,5.00,1,true,Pay Bill,,,",
     "BAD Paid In: money in or money out expected, got both"),
    ("UFB6,03-06-2026 13:00:00,,Pay Bill,Completed,,,1,true,Pay Bill,,,",
     "BAD Paid In: money in or money out expected, got neither"),
    ('UFB7,03-06-2026 13:00:00,,Pay Bill,Completed,"13,00.00",,1,true,Pay Bill,,,',
     "BAD Paid In: an amount such as 1,234.50 expected, got '13,00.00'"),
]

# --- MTN --------------------------------------------------------------------------------------------------------------

MTN_HEADER = ("Id,External id,Date,Status,Type,From,From name,To,To name,Amount,Currency,Fee,Balance\n")
MTN = [
    ("23503452,0190b0a0-0000-7000-8000-000000000001,2026-06-03 12:05:01,Successful,Debit,256772000001,A,600,U,"
     "\"20,000\",UGX,100,1",
     "PAYMENT 23503452 06-03T09:05Z 03 20000 100 /0190b0a0-0000-7000-8000-000000000001/256772000001/"),
    ("23503453,,2026-06-03 12:05:01,Failed,Debit,256772000001,A,600,U,500,UGX,0,1", "-"),
    ("23503454,,2026-06-03 12:05:01,Successful,Transfer refund,600,U,256772000001,A,-500,UGX,0,1",
     "REFUND 23503454 06-03T09:05Z 03 -500 0 //600/"),
    ("23503455,,2026-06-03 12:05:01,Successful,Debit,256772000001,A,600,U,500,KES,0,1",
     "BAD Currency: UGX expected, got 'KES'"),
    ("23503456,,2026-06-03 12:05:01,Successful,Debit,256772000001,A,600,U,500.5,UGX,0,1",
     "BAD Amount: at most 0 decimals expected, got '500.5'"),
    ("23503457,,2026-06-03 12:05:01,Successful,Debit,256772000001,A,600,U,-500,UGX,0,1",
     "BAD : a row that no [[row]] of the mapping fits"),
]

# --- a bank -----------------------------------------------------------------------------------------------------------

BANK_HEADER = (
    "Account;0123456\nPeriod;June 2026\n\n"
    "Booking date;Value date;Bank reference;Customer reference;Counterparty;Narrative;Debit;Credit;Balance\n"
)
BANK = [
    ("03.06.2026;03.06.2026;FT1;SLIP-77;JANE;Cash deposit;;1.234,50;9",
     "PAYMENT FT1 06-03T09:00Z 03 123450 0 /SLIP-77/JANE/"),
    ("03.06.2026;03.06.2026;FT2;;;Bank charge June;12,00;;9", "FEE FT2 06-03T09:00Z 03 0 1200 ///"),
    ("03.06.2026;03.06.2026;FT3;;;Unpaid cheque 12;500,00;;9", "REVERSAL FT3 06-03T09:00Z 03 -50000 0 ///"),
    ("03.06.2026;03.06.2026;FT4;;;Own account sweep;500,00;;9", "PAYOUT FT4 06-03T09:00Z 03 -50000 0 ///"),
    ("03.06.2026;03.06.2026;FT5;;;Rent;500,00;;9", "BAD : a row that no [[row]] of the mapping fits"),
    ("03.06.2026;03.06.2026;FT6;;;x;;1234.50;9", "BAD Credit: an amount such as 1.234,50 expected, got '1234.50'"),
]

# --- what `fetch` writes ----------------------------------------------------------------------------------------------

FETCHED_HEADER = "receipt,occurred_at,amount,fee,currency,our_ref,payer,account_ref\n"
FETCHED = [
    ("ATPid_1,2026-06-03T09:05:01+00:00,500.00,2.75,KES,0190b0a0-0000-7000-8000-000000000001,254711013579,04012345676",
     "PAYMENT ATPid_1 06-03T09:05Z 03 50000 275 /0190b0a0-0000-7000-8000-000000000001/254711013579/04012345676"),
    ("ATPid_2,2026-06-03T22:30:00+00:00,500.00,0.00,KES,,,", "PAYMENT ATPid_2 06-03T22:30Z 04 50000 0 ///"),
    ("ATPid_3,2026-06-03T09:05:01,500.00,0.00,KES,,,",
     "BAD occurred_at: a time of the form %Y-%m-%dT%H:%M:%S%z expected, got '2026-06-03T09:05:01'"),
    ("ATPid_4,2026-06-03T09:05:01+00:00,500.00,0.00,UGX,,,", "BAD currency: KES expected, got 'UGX'"),
]
# fmt: on
TABLES = {
    "neutral": (NEUTRAL_HEADER, NEUTRAL, KENYA),
    "mpesa-organisation": (MPESA_HEADER, MPESA, KENYA),
    "mtn-momo": (MTN_HEADER, MTN, UGANDA),
    "fetched": (FETCHED_HEADER, FETCHED, KENYA),
    "bank-account": (BANK_HEADER, BANK, KENYA),
}


def test_every_shipped_mapping_has_its_table_of_rows() -> None:
    assert sorted(TABLES) == shipped()


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_read_as_the_table_says(name: str, tmp_path: Path) -> None:
    header, table, terms = TABLES[name]
    form = load(name)
    if name == "mtn-momo":  # a header may leave out what is passed over
        assert set(form.expected.needed) <= set(MTN_HEADER.strip().split(","))
    text = header + "".join(f"{row}\n" for row, _ in table)
    for (row, expected), found in zip(table, rows(form, text, terms, tmp_path), strict=True):
        assert found == expected, row


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("value_date,provider,provider_ref,amount,fee\n", "columns missing: our_ref"),
        (NEUTRAL_HEADER.replace("fee", "fees"), "columns missing: fee"),
        (NEUTRAL_HEADER.replace("\n", ",note\n"), "columns that such a file does not have: 'note'"),
        (NEUTRAL_HEADER.replace(",", ";"), "separated by semicolons"),
        ("", "a header expected, the file is empty"),
    ],
)
def test_a_file_with_other_columns_is_refused_as_a_whole(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=words):
        rows(load("neutral"), text, KENYA, tmp_path)


def test_a_statement_without_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"columns missing: Receipt No\."):
        rows(load("mpesa-organisation"), "a,b\n" * 30, KENYA, tmp_path)


GOOD = """
[columns]
receipt = "R"
occurred_at = "T"
amount = "A"
[dates]
form = "%Y-%m-%d"
[[row]]
kind = "PAYMENT"
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "Expected"),
        (GOOD + "[more]\n", "there is no 'more'"),
        (GOOD.replace('receipt = "R"\n', ""), "columns.receipt: needed"),
        (GOOD.replace('amount = "A"\n', ""), "columns.amount: needed, or paid_in"),
        (GOOD.replace('amount = "A"', 'amount = "A"\npaid_in = "B"'), "columns.amount: either amount"),
        (GOOD.replace('"A"', "1"), "columns.amount: the name of a column expected, got 1"),
        (GOOD.replace('amount = "A"', 'amount = "A"\nsum = "A"'), "columns: there is no 'sum'"),
        (GOOD.replace('form = "%Y-%m-%d"', ""), "dates.form: a form such as"),
        (GOOD.replace('kind = "PAYMENT"', 'kind = "MONEY"'), "row 1.kind: one of PAYMENT, FEE"),
        (GOOD + 'column = "B"\nis = ["x"]\n', "row 1.column: 'B' is neither in"),
        (GOOD + 'column = "A"\n', "row 1: one of is, begins, contains expected"),
        (GOOD + 'column = "A"\nis = "x"\n', "row 1.is: a list of texts expected"),
        (GOOD + 'is = ["x"]\n', "row 1: is: a column expected"),
        (GOOD + 'sign = "up"\n', 'row 1.sign: "in" or "out" expected'),
        (GOOD.split("[[row]]")[0], "row: at least one"),
        ('delimiter = "x"\n' + GOOD, "delimiter: "),
        ('decimal_mark = ","\ngroup_mark = ","\n' + GOOD, "group_mark: another mark"),
        ('timezone = "Mars/Base"\n' + GOOD, "timezone: an IANA name"),
        ('currency = "kes"\n' + GOOD, "currency: three capital letters"),
        ("lines_before_header_max = -1\n" + GOOD, "lines_before_header_max: a whole number"),
    ],
)
def test_a_bad_mapping_says_where_and_why(text: str, words: str) -> None:
    with pytest.raises(BadMapping, match=words.replace("[", r"\[")):
        read("mine", text)


@pytest.mark.parametrize("named", ["nothing", "../mapping", "/nowhere/x.toml", "Neutral"])
def test_a_mapping_that_is_not_there_is_a_sentence(named: str) -> None:
    with pytest.raises(BadMapping):
        load(named)


MARKS = st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", "'")])


@given(st.integers(1, 10**12), MARKS, st.integers(0, 3))
def test_an_amount_is_read_back_in_any_spelling(minor: int, marks: tuple[str, str], digits: int) -> None:
    decimal, group = marks
    text = plain(minor, digits)
    whole, _, part = text.partition(".")
    grouped = f"{int(whole):,}".replace(",", group) if group else whole
    form = read("mine", f'decimal_mark = "{decimal}"\ngroup_mark = "{group}"\n{GOOD}')
    values = {"R": "1", "T": "2026-06-03", "A": grouped + (decimal + part if part else "")}
    row = read_row(form, values, Terms(ZoneInfo("UTC"), "KES", digits, NOW, ""))
    assert row.line is not None and row.line.amount_minor == minor


@given(st.lists(st.text(max_size=12), min_size=6, max_size=6))
def test_noise_is_a_line_or_a_fault_and_never_a_crash(cells: list[str]) -> None:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    form = load("neutral")
    row = read_row(form, dict(zip(form.expected.known, cells, strict=True)), KENYA)
    assert row.line is None or not row.faults
