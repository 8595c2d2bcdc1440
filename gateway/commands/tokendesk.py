"""`prepaid token` with the books behind it: meters, sales, keys in use, and people who approve."""

from __future__ import annotations

from typing import Any

from gateway import meterdesk
from gateway.commands import tokens


def add_commands(subparsers: Any) -> None:
    """Add `token` to an argparse sub-parsers object."""
    tokens.add_commands(
        subparsers,
        find_meter=meterdesk.find_meter,
        find_sale=meterdesk.find_sale,
        make_in_books=meterdesk.make_management,
        open_module=meterdesk.kept_module,
        approve=meterdesk.approve,
    )
