"""Every SQL table of the program, once: what the migrations make and the tests compare. Import `metadata` from here.

A module of tables is named here so that its tables are in `metadata`; nothing else needs this module.
"""

from __future__ import annotations

from ledger import bank_tables as _bank_tables
from ledger import bankday_tables as _bankday_tables
from ledger import bulk_tables as _bulk_tables
from ledger import correction_tables as _correction_tables
from ledger import payment_tables as _payment_tables
from ledger import record_tables as _record_tables
from ledger import settlement_tables as _settlement_tables
from ledger import sms_tables as _sms_tables
from ledger import stations_tables as _stations
from ledger import tables as _tables
from ledger import ussd_tables as _ussd_tables
from ledger import voucher_tables as _voucher_tables
from ledger.columns import metadata

__all__ = ["MODULES", "metadata"]

MODULES = (
    _tables,
    _record_tables,
    _correction_tables,
    _sms_tables,
    _stations,
    _ussd_tables,
    _bulk_tables,
    _bank_tables,
    _bankday_tables,
    _settlement_tables,
    _payment_tables,
    _voucher_tables,
)
