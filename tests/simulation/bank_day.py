"""A day of a bank's switch at a gateway that is killed twice, with faults and a cut-over; then everything is compared.

python -m tests.simulation.bank_day --purchases 10000 [--seed 1] [--database sqlite:///day.db]

The gateway is a process of its own (`prepaid serve`), the switch the one of `prepaid simulate bank`, on real sockets.
One answer in a hundred is lost, one request in a hundred sent twice at once, one sale in two hundred taken back for
want of paper and one link in two hundred cut within a request; after silence three in ten are taken back at once.

Afterwards bank file, ledger and tokens must match line by line: each difference is in its named class, and the classes
explain the whole difference between the bank's books and ours. Every token that the bank was told, its meter takes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from channels.iso8583 import shipped
from channels.iso8583.switch import BankSwitch, Fault, SwitchSettings
from channels.iso8583.switch_books import Fate, Patience, unresolved
from channels.iso8583.switch_messages import Terminal
from gateway.world import RealWorld, seeded
from ledger import bankdays
from ledger.bankmatch import AGREED, Class, Finding
from ledger.store import open_store
from ledger.trial_balance import broken_invariants
from sts.meter import Result
from tests.bench.load import message_centre
from tests.bench.service import Service, free_port, set_up, write_settings
from tests.gateway.bank.agreement import compared, sell, tokens_sold, tokens_told
from tests.simulation.utility import Customer, simulated_meter

BANK: Final = "kcb"
RATES: Final = {
    Fault.LOSE_ANSWER: 0.01, Fault.REPEAT: 0.01, Fault.NO_PAPER: 0.005, Fault.GIVE_UP: 0.3, Fault.CUT: 0.005,
}  # fmt: skip
# Taken back after the cut-over: acknowledged, since the bank informs, but the sale of a settled day stands.
_EXPLAINED: Final = {Class.REVERSED_THERE, Class.LATE_REVERSAL}
_PARALLEL: Final = 6
_PER_METER: Final = 10  # a meter's token identifiers are a minute apart, and may run half an hour ahead


@dataclass
class Day:
    """What a day came to. `complaints` are what does not match; there must be none."""

    switch: BankSwitch
    kinds: Counter[str] = field(default_factory=Counter)
    tokens_taken: int = 0
    difference_minor: int = 0
    complaints: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        books, counts = self.switch.books, self.switch.counts
        fates = Counter(sale.fate.value for sale in books.sales)
        return [
            f"purchases {len(books.sales)}: " + ", ".join(f"{name} {count}" for name, count in sorted(fates.items())),
            f"messages {counts.requests}, answers {counts.answers}, links {counts.connections}, faults {counts.faults}",
            "faults: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.by_fault.items())),
            "classes: " + ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items())),
            f"the bank's books {books.net_minor()}, ours {books.net_minor() + self.difference_minor} minor units; "
            f"{self.tokens_taken} tokens taken by their meters; complaints: {len(self.complaints)}",
        ]


async def day(url: str, folder: Path, purchases: int, seed: int, patience_s: float) -> Day:
    """Sell so many purchases with faults, two kills and a cut-over, and compare all accounts of it."""
    everyone = await set_up(url, folder / "utility", max(40, purchases // _PER_METER))
    world, zone, port, http_port = RealWorld(), ZoneInfo("Africa/Nairobi"), free_port(), free_port()
    sections: dict[str, Any] = {
        "bank": {"name": BANK, "currency": "404", "listen": f"127.0.0.1:{port}", "addresses": "127.0.0.0/8"}
    }
    config = folder / "prepaid.toml"
    switch = BankSwitch(
        SwitchSettings(
            port=port,
            answer_timeout_s=0.8,
            terminals=(Terminal(currency="404"),),
            patience=Patience(reversals=300),  # a bank's store-and-forward does not tire while a gateway starts
            fault_rates=RATES,
        ),
        shipped.shipped("atm87"),
        now=world.now,
        local=lambda moment: moment.astimezone(zone),
        random=seeded(seed),
    )
    first = switch.business_date

    async def until(sales: int) -> None:
        while len(switch.books.sales) < sales:
            if selling.done():
                raise AssertionError("sold out before its time") from selling.exception()
            await asyncio.sleep(0.005)

    async with message_centre(1) as centre:
        write_settings(config, url, centre.port, http_port, sections)
        with Service(config, http_port) as service:
            service.start()
            await switch.start()
            try:
                async with asyncio.timeout(patience_s):
                    await switch.ready(2)
                    selling = asyncio.create_task(sell(switch, [each.drn for each in everyone], purchases, _PARALLEL))
                    await until(purchases // 4)
                    service.kill()
                    service.start()
                    await until(purchases // 2)
                    assert await switch.cut_over(first + timedelta(days=1)) == "00"
                    await until(3 * purchases // 4)
                    service.kill()
                    service.start()
                    await selling
            finally:
                await switch.stop()
            assert await service.stop() == 0, service.last_words()
    found = Day(switch)
    found.complaints += [f"wrong: {sentence}" for sentence in switch.books.wrong]
    found.complaints += [f"unresolved: {sale.order.rrn}" for sale in unresolved(switch.books)]
    store = await open_store(url)
    try:
        found.complaints += [f"books: {sentence}" for sentence in await store.read(broken_invariants)]
        now, new_id = world.now(), world.new_id
        findings = [
            finding
            for business_date in (first, first + timedelta(days=1))
            for finding in await compared(switch, store, BANK, business_date, now, new_id)
        ]
        owed = await store.read(lambda connection: bankdays.on_its_way_minor(connection, BANK))
        sold = await store.read(tokens_sold)
    finally:
        await store.close()
    _compare(found, purchases, findings, owed, sold)
    _enter(found, everyone, world)
    return found


def _compare(
    found: Day, purchases: int, findings: Sequence[Finding], owed: int, sold: Mapping[str, tuple[str, ...]]
) -> None:
    """Lines of the file, money and tokens."""
    switch, complain = found.switch, found.complaints.append
    found.kinds.update(finding.kind.value for finding in findings)
    if not len({finding.key for finding in findings}) == len(findings) >= purchases:
        complain(f"{len(findings)} findings for {purchases} purchases, or one twice")
    differ = [finding for finding in findings if finding.kind not in AGREED]
    found.complaints += [f"unexplained: {one.kind} {one.key}" for one in differ if one.kind not in _EXPLAINED]
    found.difference_minor = owed - switch.books.net_minor()
    if found.difference_minor != sum(finding.difference_minor for finding in differ):
        complain(f"the classes do not explain the difference of {found.difference_minor}")
    stand = {finding.key.rpartition("/")[2] for finding in differ if finding.kind is Class.REVERSED_THERE}
    told = tokens_told(switch)
    ours = {key: made for key, made in sold.items() if key not in stand}
    for reference in ours.keys() | told.keys():
        if ours.get(reference) != told.get(reference):
            complain(f"other tokens in the books than the bank was told: {reference}")
    if not sum(sale.fate is Fate.APPROVED for sale in switch.books.sales) > purchases // 2:
        complain("less than half was sold")


def _enter(found: Day, everyone: Sequence[Customer], world: RealWorld) -> None:
    """Every customer types the token in, in the order of buying."""
    meters, told = {each.drn: simulated_meter(each) for each in everyone}, tokens_told(found.switch)
    for sale in found.switch.books.sales:
        for token in told.get(sale.order.rrn, ()):
            result = meters[sale.order.meter].enter(token, world.now()).result
            if result is Result.ACCEPT:
                found.tokens_taken += 1
            else:
                found.complaints.append(f"the meter says {result}: {sale.order.rrn}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a day, and tell what it came to; 1 if anything does not match."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--purchases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="an empty database; by default SQLite in a folder of its own")
    parser.add_argument("--patience", type=float, default=3_600, help="seconds after which the day is given up")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        url = options.database or f"sqlite:///{folder}/day.db"
        found = asyncio.run(day(url, Path(folder), options.purchases, options.seed, options.patience))
    for line in [*found.lines(), *found.complaints]:
        print(line)
    return 1 if found.complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
