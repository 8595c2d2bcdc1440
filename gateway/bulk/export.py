"""An export: all records of a kind, a page at a time, in one reading transaction. Shell."""

from __future__ import annotations

from typing import Any, Final, TextIO

from gateway.bulk.form import Form
from gateway.bulk.writing import writer
from ledger.bulk.kinds import KINDS

_PAGE: Final = 1000


def export(connection: Any, form: Form, file: TextIO, format_: str, minor_digits: int) -> int:
    """Write all of them to the file; how many. No secret is among them: none of these tables holds one."""
    write = writer(file, format_, form.exported)
    count = 0
    for name in form.kinds:
        kind, after = KINDS[name], ""
        while page := kind.page(connection, after, _PAGE):
            for record in page:
                write(form.give(record, minor_digits))
            count += len(page)
            after = kind.key(page[-1])
    return count
