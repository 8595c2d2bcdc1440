"""docs/bulk.md, made from the tables of columns: `python -m gateway.bulk.described > docs/bulk.md`. Pure.

A test compares the file with what this gives, so the two never differ.
"""

from __future__ import annotations

import sys
from typing import Final

from gateway.bulk.form import Column, Form
from gateway.bulk.forms import FORMS

_HEAD: Final = """# Records in bulk

Made from the tables of columns by `python -m gateway.bulk.described`; a test compares.

    prepaid import KIND FILE --config FILE [--trial] [--load-good] [--repair FILE] [--update --as LOGIN]
    prepaid export KIND --config FILE --as LOGIN [--out FILE] [--format csv|jsonl]
    prepaid load FOLDER --config FILE

`import` takes one file, `load` the files of a whole utility at once, by the names below; both use the same code.
Import in this order: tariffs, customers, points, stations, meters, phones, debts, balances, readings.

## Files

- **CSV**: a header, commas, quotation marks where a value needs them. UTF-8, with or without its mark, or UTF-16 with
  it; `--encoding latin-1` or another for the rest. Semicolons, unknown, missing and double columns are refused.
- **JSON lines**: an object a line, with the columns as fields, as texts or numbers. Numbers are taken as they are
  written.
- Amounts of money and numbers have a point before decimals and no commas or blanks. Instants have their offset.
- A line, and a record of several lines, has at most 1,000,000 characters. Blanks around a value do not count.

## What happens

1. The file is read once; each line is checked by itself and laid out in a private temporary file. Keys that stand in
   two different lines are faults; a line that repeats another counts once.
2. Everything is compared with the database, a page of 1,000 records at a time, without writing.
3. If there is no fault (or with `--load-good`: the lines without one), the records are stored, a page in a
   transaction.

So: nothing is stored if any line is bad, unless told to. Memory does not grow with the file; disk for the temporary
file does, by about its size. An import that is killed in step 3 has stored whole pages; the same command again stores
the rest, and says how many were there already. A record and what hangs on it (a customer's wallet, a debt's posting,
a station's account and deposit) are one transaction. A line that gives several records (a customer with a phone) may
have been stored in part then. If another program takes a key between steps 2 and 3, that record counts as there
already; one whose account, meter or station has gone meanwhile is told as a fault and left out.

- `--trial` does steps 1 and 2 and says the same.
- `--repair FILE` writes the bad lines as they came, with `repair_line` and `repair_reason` before them. Mend them in
  that file and import it; these two columns are passed over. Of a line without end the beginning is there.
- Loading again changes nothing: it says how many records were there and which of them differ. `--update` changes
  those (customers, points, meters, stations, debts): somebody signs in, and each changed record has its row in the
  audit log, in the transaction that changes it. What has duties of its own is never changed by a file, only told: sums,
  owners, statuses of customers and meters, where a meter hangs, tariffs, free units, credit limits and commissions.
- An import that stores something has one row in the audit log, `records.import`, with the file's name and SHA-256.
- An export is what an import reads, of the records as they are now; no secret is in it. Names and numbers of people
  are: the file is for its owner only, and somebody who may look at records signs in (SUPPORT, SUPERVISOR, FINANCE,
  ENGINEER or AUDITOR). It has a row in the audit log, `records.export`, before its first line is written.
- On a terminal there is a bar. Exit codes: 0 all is well; 1 lines were left out (`--load-good`), or the person may
  not; 2 nothing was stored because of the input; 3 the database is away.
"""

_READINGS: Final = """
A reading below the one before it, or more than 500 kWh a day above it, is told and stored: the register, the reader or
the meter may be to blame, and somebody has to look. The one before may stand in the file or in the database.
"""


def described() -> str:
    """The whole document."""
    parts = [_HEAD]
    for form in FORMS.values():
        parts.append(_form(form))
        if form.name == "readings":
            parts.append(_READINGS)
    return "".join(parts)


def _form(form: Form) -> str:
    kept = [column for column in form.columns if column.kept]
    over = [column.name for column in form.columns if not column.kept]
    lines = [f"\n## {form.name}\n\n{_sentence(form.about)} In a folder: `{form.file}`.\n"]
    lines.append("| column | | holds |\n|---|---|---|")
    lines += [f"| `{column.name}` | {_mark(column)} | {column.about} |" for column in kept]
    text = "\n".join(lines) + "\n"
    return text + (f"\nKnown and passed over: {', '.join(f'`{name}`' for name in over)}.\n" if over else "")


def _sentence(about: str) -> str:
    return f"{about[0].upper()}{about[1:]}."


def _mark(column: Column) -> str:
    marks = ["needed"] if column.needed else []
    marks += [] if column.exported else ["import only"]
    return ", ".join(marks)


if __name__ == "__main__":
    sys.stdout.write(described())
