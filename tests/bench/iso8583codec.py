"""Messages a second of one process: ours beside pyiso8583 in the same run, the same purchase with 15 fields.

Ours reads field 48 into its sub-fields and looks at what every field holds; pyiso8583 does neither.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from time import perf_counter

import iso8583
from iso8583.specs import default_ascii

from channels.iso8583 import shipped

MESSAGES = 5_000
ROUNDS = 5

# The purchase of tests/vectors/iso8583.jsonl, atm87-purchase.
PURCHASE = (
    b"02007238440108C1800016502199000000001750000000000000500011220930150001241130151122490002106627001232611000124"
    b"ATM00042BANKBRANCH00042041010110100000001602004ELEC04011Q0000000123840"
)


def _best(*works: Callable[[], object]) -> list[float]:
    """Runs a second of each, the best of some rounds, turn and turn about: what disturbs one disturbs the other."""
    rates: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, found in zip(works, rates, strict=True):
            began = perf_counter()
            for _ in range(MESSAGES):
                work()
            found.append(MESSAGES / (perf_counter() - began))
    return [max(found) for found in rates]


def figures() -> Iterator[dict[str, object]]:
    """One line of figures for reading, one for writing."""
    packager = shipped.shipped("atm87").packager
    for _ in range(5):  # until there are plans for it
        message = packager.decode(PURCHASE)
        assert packager.encode(message) == PURCHASE, "the same bytes again"
    spec = copy.deepcopy(default_ascii)
    theirs, _ = iso8583.decode(PURCHASE, spec)
    assert bytes(iso8583.encode(dict(theirs), spec)[0]) == PURCHASE, "the same message for both"
    reading = _best(lambda: packager.decode(PURCHASE), lambda: iso8583.decode(PURCHASE, spec))
    # Their writer takes fields out of the dictionary it is given.
    writing = _best(lambda: packager.encode(message), lambda: iso8583.encode(dict(theirs), spec))
    for name, (ours, other) in (("iso8583 decode", reading), ("iso8583 encode", writing)):
        yield {
            "name": name,
            "fields": len(message.numbers),
            "messages_per_s": ours,
            "pyiso8583_per_s": other,
            "ratio": ours / other,
        }
