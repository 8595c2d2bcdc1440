"""Single parts of a purchase by themselves, in microseconds: so that a reader sees where the rest of the time goes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from statistics import median
from time import perf_counter

import gateway
from channels.commands import Vocabulary, parse
from config import languages
from ledger import pricing
from ledger.tariffs_format import read_tariff
from sts.modules.contract import CreditRequest
from sts.modules.software import SoftwareModule
from sts.tid import next_tid
from tests.simulation import utility
from tests.simulation.utility import Customer

_PAGE = b"\0" * 4096


def token_us(everyone: Sequence[Customer]) -> tuple[float, float]:
    """One token from the security module: where the meter's key must be derived, and where it is ready."""
    module = SoftwareModule(utility.vending_keys(), cache_size=len(everyone))
    tid = next_tid(datetime.now(UTC), 2014, None, max_ahead_minutes=30)
    requests = [CreditRequest(customer.key(), 0, tid, 5, 226) for customer in everyone]
    first = _us_each(lambda: [module.make(request) for request in requests], len(requests))
    return first, _us_each(lambda: [module.make(request) for request in requests], len(requests))


def pricing_us(everyone: Sequence[Customer]) -> float:
    """One payment divided by its tariff, over the utility's mix of tariffs."""
    path = Path(gateway.__file__).parent / "sample" / "tariffs.json"
    tariffs = {each["code"]: read_tariff(each, minor_digits=2) for each in json.loads(path.read_text())["tariffs"]}
    now = datetime.fromisoformat("2026-06-05T08:15")  # local, as pricing wants it
    account = pricing.Account(
        counter_month="2026-06",
        month_units_tenths=0,
        fixed_through_month="2026-06",
        fixed_through_date=now.date(),
        fixed_shortfall_minor=0,
        carry_minor=0,
        free_kwh_per_month=None,
        free_last_month="",
        debts=(),
    )
    cap = Fraction(80)
    chosen = [tariffs[customer.tariff_code] for customer in everyone]

    def run() -> None:
        for number, tariff in enumerate(chosen):
            pricing.price(tariff, account, 50_000 + number % 100, now, fee_minor=0, debt_cap_percent=cap)

    return _us_each(run, len(chosen))


def reading_us(everyone: Sequence[Customer]) -> float:
    """One text read as a request."""
    catalogue = languages.load("en")
    vocabulary = Vocabulary.of(catalogue.keywords(), catalogue.language_words())
    texts = [f"{customer.drn} 500" for customer in everyone]

    def run() -> None:
        for text in texts:
            parse(text, minor_digits=2, currency="KES", vocabulary=vocabulary)

    return _us_each(run, len(texts))


def fsync_us(folder: Path) -> float:
    """A page written and synced to the disk the databases are on: the median of 200."""
    path = folder / "fsync.probe"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    times = []
    try:
        for _ in range(200):
            os.pwrite(handle, _PAGE, 0)
            began = perf_counter()
            os.fdatasync(handle)
            times.append(perf_counter() - began)
    finally:
        os.close(handle)
        path.unlink()
    return median(times) * 1e6


def _us_each(run: Callable[[], object], count: int) -> float:
    began = perf_counter()
    run()
    return (perf_counter() - began) / count * 1e6
