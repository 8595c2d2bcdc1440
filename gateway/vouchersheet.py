"""The printable sheet of a batch of vouchers: a PDF, A4, to be cut. Pure: the same batch gives the same octets.

It is the only place where the numbers can be read, so whoever writes it keeps it from everybody else.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from config.languages import groups_of_four
from ledger.money import plain
from ledger.vouchers import Batch

_ACROSS, _DOWN = 3, 8
_MARGIN, _PAD = 28.0, 8.0  # points


def sheet(utility: str, batch: Batch, numbers: Sequence[str], minor_digits: int) -> bytes:
    """The sheet with every number in the order of the serials. A name that the built-in fonts lack is left out."""
    # Only here: it takes longer to import than most commands to run.
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfgen.canvas import Canvas

    target = io.BytesIO()
    canvas = Canvas(target, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(f"Vouchers {batch.code}")
    width, height = (A4[0] - 2 * _MARGIN) / _ACROSS, (A4[1] - 2 * _MARGIN) / _DOWN
    name = utility if utility.encode("cp1252", errors="replace").decode("cp1252") == utility else ""
    value = f"{batch.currency} {plain(batch.value_minor, minor_digits)}"
    for index, number in enumerate(numbers):
        place = index % (_ACROSS * _DOWN)
        if index and not place:
            canvas.showPage()
        left = _MARGIN + place % _ACROSS * width
        top = A4[1] - _MARGIN - place // _ACROSS * height
        canvas.setDash(1, 3)
        canvas.rect(left, top - height, width, height)
        canvas.setDash()
        canvas.setFont("Helvetica", 9)
        canvas.drawString(left + _PAD, top - _PAD - 9, name[:32])
        canvas.setFont("Helvetica-Bold", 16)
        canvas.drawString(left + _PAD, top - _PAD - 30, value)
        canvas.setFont("Courier-Bold", 13)
        canvas.drawString(left + _PAD, top - _PAD - 52, groups_of_four(number, " "))
        canvas.setFont("Helvetica", 7)
        canvas.drawString(left + _PAD, top - _PAD - 68, f"{batch.code} / {index + 1:06d}    {batch.expires_on}")
    canvas.save()
    return target.getvalue()
