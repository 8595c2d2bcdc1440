"""`python -m tests.soak`: many messages through a gateway with a message centre that misbehaves all the time.

The gateway is the product's own, in this process, on a database of its own; the message centre is on a real socket and
commits every fault it knows at random: it throttles, refuses, answers late, twice or never, delivers twice, forgets
acknowledgements, sends receipts early, late, twice or not at all, talks nonsense, and cuts connections in the middle
of packets. Customers write in GSM, UCS-2 and in several parts, each waiting for the answer before the next wish.

At the end counts in are counts out: every text was stored once, sold or refused once, and its answer reached the
phone. A second copy of the same answer is allowed only where the message centre left its outcome unknown, and they are
counted.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import sqlalchemy as sa

from channels.smpp.message_centre import Account, CentreSettings, Fault, IdForm, MessageCentre, ReceivedReply
from config.kinds import Secret
from config.settings import (
    CustomerSettings,
    DatabaseSettings,
    DeliverySettings,
    GatewaySettings,
    HttpSettings,
    LinksSettings,
    LogSettings,
    Settings,
    SmppSettings,
    StsSettings,
)
from gateway import app, logs
from gateway.metrics import Metrics
from gateway.world import RealWorld
from ledger import tables
from ledger.sms_tables import sms_assembly, sms_sent
from ledger.trial_balance import broken_invariants
from tests.bench.service import PASSWORD, REFERENCE_TLV, SYSTEM_ID, set_up
from tests.simulation import utility
from tests.simulation.utility import SHORT_CODE, Customer

RATES: Final = {
    Fault.THROTTLE: 0.02,
    Fault.QUEUE_FULL: 0.01,
    Fault.NACK_SUBMIT: 0.01,
    Fault.SILENT_SUBMIT: 0.002,
    Fault.SLOW_SUBMIT: 0.01,
    Fault.DOUBLE_ANSWER: 0.02,
    Fault.EARLY_RECEIPT: 0.05,
    Fault.LOSE_RECEIPT: 0.02,
    Fault.BAD_RECEIPT: 0.02,
    Fault.DOUBLE_RECEIPT: 0.02,
    Fault.DUPLICATE: 0.02,
    Fault.LOSE_ANSWER: 0.02,
    Fault.UNKNOWN_COMMAND: 0.01,
    Fault.DEAF: 0.05,
}
WINDOW: Final = 50
STALLED_S: Final = 120.0
_TOLD_EVERY: Final = 5_000


class SoakFailed(Exception):
    """Counts in are not counts out; the message says which."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a soak found: everything that may be counted and nothing that must not be."""

    messages: int
    copies: int
    unknown: int
    late: int
    faults: int
    sessions: int
    receipts: int
    matched: int
    seconds: float


class Crowd:
    """Customers of the utility, some of them writing at one time, each in turn; each waits for the answer to one text.

    No two texts of one customer are alike, so that an answer that comes twice is known for a copy.
    """

    def __init__(self, centre: MessageCentre, everyone: Sequence[Customer], chance: random.Random) -> None:
        self._centre = centre
        self._everyone = everyone
        self._chance = chance
        self._turn = 0
        self._written = 0
        self._until = 0
        self._waits: dict[str, str] = {}  # phone -> what its answer must hold
        self.answered = 0
        self.copies = 0
        self._seen: set[tuple[str, str]] = set()
        self.wrong: list[str] = []
        centre.on_reply = self._take

    async def write(self, messages: int, at_most_s: float) -> int:
        """Write so many texts, or as many as there is time for, and wait for all their answers; how many it were."""
        self._until = messages
        ends_at = perf_counter() + at_most_s
        for _ in range(min(WINDOW, messages, len(self._everyone))):
            self._send()
        seen, told = -1, 0
        while self.answered < self._until and not self.wrong:
            if seen == self.answered:
                raise SoakFailed(f"no answer in {STALLED_S:.0f} s; {self.answered} came, {len(self._waits)} wait")
            seen, stalled_at = self.answered, perf_counter() + STALLED_S
            while self.answered == seen and perf_counter() < stalled_at:
                await asyncio.sleep(0.02)
            if perf_counter() > ends_at:
                self._until = min(self._until, self._written)
            if self.answered // _TOLD_EVERY > told:
                told = self.answered // _TOLD_EVERY
                print(f"soak: {self.answered} answered, {self.copies} copies", file=sys.stderr, flush=True)
        if self.wrong:
            raise SoakFailed(self.wrong[0])
        return self._until

    def _send(self) -> None:
        while (customer := self._everyone[self._turn % len(self._everyone)]).msisdn in self._waits:
            self._turn += 1
        number = self._turn
        self._turn += 1
        self._written += 1
        amount = f"{500 + number // len(self._everyone)}.{number % 89 + 10}"
        unknown = self._chance.random() < 0.05
        drn = utility.unknown_drn(number) if unknown else customer.drn
        self._waits[customer.msisdn] = drn if unknown else f"KES {amount}"
        text = f"{drn} {amount}"
        way = self._chance.randrange(4)
        if way == 0:
            self._centre.deliver_octets(customer.msisdn, SHORT_CODE, text.encode("utf-16-be"), 8)
        elif way == 1:
            self._centre.deliver(customer.msisdn, SHORT_CODE, text + " " * 170)
        else:
            self._centre.deliver(customer.msisdn, SHORT_CODE, text)

    def _take(self, reply: ReceivedReply) -> None:
        key = (reply.destination, reply.text)
        if key in self._seen:
            self.copies += 1
            return
        self._seen.add(key)
        expected = self._waits.pop(reply.destination, None)
        if expected is None or expected not in reply.text:
            self.wrong.append(f"an answer that nobody waits for: {reply.text[:60]!r}, expected {expected!r}")
            return
        self.answered += 1
        if self._written < self._until:
            self._send()


async def soak(
    url: str, folder: Path, messages: int, seed: int, cuts: float = 0.0005, at_most_s: float = math.inf
) -> Verdict:
    """One soak in a database at this URL; SoakFailed where counts differ. `cuts`: the chance for each write."""
    chance = random.Random(seed)
    everyone = await set_up(url, folder / "utility", min(max(messages // 4, 60), 5_000))
    centre = MessageCentre(
        CentreSettings(
            accounts=(Account(SYSTEM_ID, PASSWORD),),
            window=WINDOW,
            redeliver_after_s=0.5,
            enquire_link_s=2.0,
            id_tlv=REFERENCE_TLV,
            id_prefix=f"{seed:x}-",
            response_ids=IdForm.HEX,
            receipt_ids=IdForm.ZEROS,
            receipt_tlvs=False,
            slow_s=0.4,
            keep_replies=1,
            fault_rates={**RATES, Fault.CUT: cuts, Fault.GARBAGE: cuts},
        ),
        random=chance.random,
    )
    await centre.start()
    try:
        settings = _settings(url, folder, centre.port)
        async with app.opened(settings, RealWorld(), Metrics()) as gateway:
            serving = asyncio.create_task(gateway.run())
            try:
                crowd = Crowd(centre, everyone, chance)
                began = perf_counter()
                messages = await crowd.write(messages, at_most_s)
                elapsed_s = perf_counter() - began
                await _settled(gateway, centre)
                return await _judge(gateway, centre, crowd, messages, elapsed_s)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
    finally:
        await centre.stop()


def _settings(url: str, folder: Path, port: int) -> Settings:
    keystore = folder / "keys.json"
    utility.seal_keystore(keystore)
    return Settings(
        gateway=GatewaySettings(node="soak"),
        utility=utility.SETTINGS,
        database=DatabaseSettings(url=url),
        customers=CustomerSettings(requests_per_sender_max=0, purchases_per_meter_max=0),  # few phones send it all
        delivery=DeliverySettings(lease_s=20.0, poll_every_s=0.2, retry_min_s=0.1, retry_max_s=1.0, attempts_max=1_000),
        links=LinksSettings(lease_s=10.0, part_timeout_s=600.0),
        sts=StsSettings(
            keystore=str(keystore), master_key=Secret(utility.MASTER_KEY.hex()), tid_ahead_max_minutes=525_600
        ),
        http=HttpSettings(port=0),
        log=LogSettings(level="ERROR", format="text"),
        smpp=(
            SmppSettings(
                name="smsc",
                host="127.0.0.1",
                port=port,
                system_id=SYSTEM_ID,
                password=Secret(PASSWORD),
                source_addr=SHORT_CODE,
                window=WINDOW,
                reference_tlv=REFERENCE_TLV,
                message_ids="hex_decimal",  # as the centre above writes them; to guess fails with running numbers
                response_timeout_s=1.0,
                throttle_pause_s=0.02,
                throttle_retries=5,
                enquire_link_s=2.0,
                reconnect_min_s=0.05,
                reconnect_max_s=0.2,
            ),
        ),
    )


async def _settled(gateway: app.Gateway, centre: MessageCentre) -> None:
    """Wait until nothing is owed, nothing is unanswered and receipts are written."""
    async with asyncio.timeout(STALLED_S):
        await centre.drained()
        while (await gateway.delivery.owed())[0] or centre.unanswered:
            await asyncio.sleep(0.05)
    # Only now is every part that went out written, and every receipt: those that came too early find theirs.
    await gateway.receipts.look()


async def _judge(gateway: app.Gateway, centre: MessageCentre, crowd: Crowd, messages: int, elapsed_s: float) -> Verdict:
    def count(connection: sa.Connection) -> dict[str, Any]:
        def of(table: sa.Table, *where: Any) -> int:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())

        states = connection.execute(sa.select(tables.purchase.c.state, sa.func.count()).group_by("state")).all()
        return {
            "requests": of(tables.request),
            "answers": of(tables.outbox),
            "sent": of(tables.outbox, tables.outbox.c.state == "SENT"),
            "purchases": {state: number for state, number in states},
            "tokens": of(tables.token),
            "open": of(sms_assembly, sms_assembly.c.state != "DONE"),
            "parts": of(sms_sent),
            "matched": of(sms_sent, sms_sent.c.state.is_not(None)),
        }

    found = await gateway.store.read(count)
    links = Counter[str]()
    for link in gateway.sms.links:
        for what in ("unanswered", "answered_late", "sessions"):
            links[what] += getattr(link.counts, what)
    sold = found["purchases"].get("DELIVERED", 0)
    wrong = [
        f"{name}: {expected} expected, got {got}"
        for name, expected, got in (
            ("requests", messages, found["requests"]),
            ("answers", messages, found["answers"]),
            ("answers sent", messages, found["sent"]),
            ("purchases that have ended well or been refused", sum(found["purchases"].values()),
             sold + found["purchases"].get("REFUSED", 0)),
            ("tokens", sold, found["tokens"]),
            ("long messages left open", 0, found["open"]),
            # The message centre may name a message in a receipt whose response we never got: no part of ours has it.
            ("parts whose receipt came and was not known", 0,
             max(0, found["parts"] - found["matched"] - centre.counts.receipts_lost)),
            ("copies beyond what was left unknown", 0, max(0, crowd.copies - links["unanswered"])),
        )
        if expected != got
    ]  # fmt: skip
    wrong.extend(await gateway.store.read(broken_invariants))
    if wrong:
        raise SoakFailed("; ".join(wrong))
    return Verdict(
        messages=messages,
        copies=crowd.copies,
        unknown=links["unanswered"],
        late=links["answered_late"],
        faults=centre.counts.faults,
        sessions=links["sessions"],
        receipts=centre.counts.receipts,
        matched=found["matched"],
        seconds=elapsed_s,
    )


def main() -> int:
    """Soak as the arguments ask; 1 where counts differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="write no more after so long, and judge")
    options = parser.parse_args()
    logs.set_up(LogSettings(level="ERROR", format="text"))
    try:
        with tempfile.TemporaryDirectory(prefix="prepaid-soak-") as folder:
            url = f"sqlite:///{folder}/soak.db"
            soaked = soak(url, Path(folder), options.messages, options.seed, at_most_s=60 * options.minutes)
            verdict = asyncio.run(soaked)
    except SoakFailed as error:
        print(f"soak: {error} (seed {options.seed})", file=sys.stderr)
        return 1
    print(replace(verdict, seconds=round(verdict.seconds, 1)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
