"""The bank's switch against a small gateway over real sockets: it sells, repeats, takes back, and finds what is wrong.

The small gateway is the product's own link (`Session`) with a dictionary for books, which can be told to misbehave.
What the real gateway does with a switch and its faults is in `tests/gateway/test_bank_end_to_end.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import pytest

from channels.iso8583 import session, shipped
from channels.iso8583.answers import Said, TokenSaid
from channels.iso8583.codes import Outcome
from channels.iso8583.keymodule import Use
from channels.iso8583.mac import Algorithm, MacRules
from channels.iso8583.message import Message
from channels.iso8583.profile import Asked, Network, Profile
from channels.iso8583.requests import Purchase, Reconciliation, Request, Reversal, request_of
from channels.iso8583.session import Broken, Came, KeyOffered, Moment, Session
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys, fits, unwrapped, wrapped_under
from channels.iso8583.switch import BankSwitch, Fault, SwitchSettings
from channels.iso8583.switch_books import Fate, Heard, Patience, Step, SwitchBooks, slip, unresolved
from channels.iso8583.switch_file import day_file
from channels.iso8583.switch_messages import Order, Terminal, Totals, Writer
from gateway.world import seeded
from ledger.bankfile import read
from ledger.reasons import Reason

NOW = datetime(2026, 11, 22, 9, 30, 15, tzinfo=UTC)
DAY = date(2026, 11, 22)
TERMINAL = Terminal(currency="404")
ORDER = Order(124, "632609000124", NOW, NOW, TERMINAL, "04012345676", 50_000, DAY)
ZMK = Secret("des", bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
ZAK = Secret("des", bytes.fromhex("BA9876543210FEDC0123456789ABCDEF"))


# --- messages ---------------------------------------------------------------------------------------------------------


def _all(profile: Profile) -> list[tuple[Message, Asked]]:
    writer = Writer(profile)
    made = [
        (writer.inquiry(ORDER), Asked.INQUIRY),
        (writer.purchase(ORDER), Asked.PURCHASE),
        (writer.purchase(ORDER, is_repeat=True), Asked.PURCHASE),
        (writer.advice(ORDER), Asked.ADVICE),
        (writer.advice(ORDER, is_repeat=True), Asked.ADVICE),
        *(
            (writer.reversal(ORDER, 125, NOW, is_advice=advice, is_repeat=repeat), Asked.REVERSAL)
            for advice in (False, True)
            for repeat in (False, True)
        ),
    ]
    if any(rule.asked is Asked.RECONCILIATION for rule in profile.messages):
        totals = Totals(3, 150_000, 1, 50_000)
        made.append(
            (writer.reconciliation(totals, DAY, 126, NOW, NOW, TERMINAL, is_repeat=False), Asked.RECONCILIATION)
        )
    made += [
        (
            writer.network(network, 127, NOW, NOW, TERMINAL, day=DAY if network is Network.CUT_OVER else None),
            Asked.NETWORK,
        )
        for network in sorted(set(profile.network.codes.values()))
    ]
    return made


@pytest.mark.parametrize("name", shipped.names())
def test_what_the_switch_writes_is_what_the_gateway_reads(name: str) -> None:
    profile = shipped.shipped(name)
    references = set()
    for made, asked in _all(profile):
        request = request_of(profile, profile.packager.decode(profile.packager.encode(made)))
        assert request.asked is asked, made.mti
        if isinstance(request, Purchase):
            assert (request.meter, request.amount_minor, request.currency) == ("04012345676", 50_000, "404")
        if isinstance(request, Reversal):
            assert (request.amount_minor, request.is_timeout) == (50_000, bool(request.reason))
        if isinstance(request, Reconciliation):
            assert (request.purchases, request.purchases_minor, request.net_minor) == (3, 150_000, -100_000)
        if isinstance(request, Purchase | Reversal):
            references.add(request.reference)
    # A purchase, its repeats, advices and reversals all have one key.
    assert len(references) == 1


def test_a_wrapped_key_is_the_key_and_has_its_check_value() -> None:
    wrapped = wrapped_under(ZMK, ZAK)
    assert unwrapped(ZMK, wrapped) == ZAK.raw and fits("des", ZAK.raw, wrapped.kcv)


# --- books ------------------------------------------------------------------------------------------------------------

TOKEN = "12345678901234567890"
YES = Heard("00", True, (TOKEN,), "R1", ("4150",))
NO = Heard("14", False)


def test_the_life_of_a_sale_by_its_table() -> None:
    books = SwitchBooks(Patience(repeats=1, reversals=2))
    sale = books.opened(ORDER)
    sale.requests = 1
    assert books.silent(sale) is Step.REPEAT
    sale.requests = 2
    assert books.silent(sale) is Step.REVERSE
    sale.reversals = 1
    assert books.reversal_silent(sale) is Step.REVERSE
    # Refused: the token was seen. It stands, and the token is asked for.
    assert books.reversal_answered(sale, "21", is_accepted=False) is Step.REPEAT
    assert books.answered(sale, YES, takes_back=True) is Step.NOTHING and sale.fate is Fate.APPROVED
    assert books.totals(DAY) == Totals(1, 50_000, 0, 0) and books.net_minor() == 50_000
    other = books.opened(replace(ORDER, stan=2, rrn="R2"))
    assert books.answered(other, replace(YES, tokens=("1" * 20,)), takes_back=True) is Step.REVERSE
    assert books.reversal_answered(other, "00", is_accepted=True) is Step.NOTHING and other.fate is Fate.REVERSED
    assert books.totals(None) == Totals(2, 100_000, 1, 50_000) and books.net_minor() == 50_000
    declined = books.opened(replace(ORDER, rrn="R3"))
    assert books.answered(declined, NO) is Step.NOTHING and declined.fate is Fate.DECLINED
    assert books.wrong == []


WRONG: list[tuple[Callable[[SwitchBooks, Any], object], str]] = [
    (lambda books, sale: (books.answered(sale, YES), books.answered(sale, replace(YES, tokens=("1" * 20,)))),
     "another token for a repeat"),
    (lambda books, sale: (books.reversal_answered(sale, "00", is_accepted=True), books.answered(sale, YES)),
     "a token after an accepted reversal"),
    (lambda books, sale: books.answered(sale, replace(YES, code="51", is_approved=False)), "a token with 51"),
    (lambda books, sale: (books.answered(sale, YES), books.answered(sale, NO)), "approved before, and 14 now"),
    (lambda books, sale: books.answered(sale, replace(YES, tokens=("12",))), "a token of 20 digits expected"),
    (lambda books, sale: (books.answered(sale, YES), books.answered(books.opened(replace(ORDER, rrn="R9")), YES)),
     "the token of 632609000124"),
]  # fmt: skip


@pytest.mark.parametrize(("deed", "sentence"), WRONG)
def test_what_must_not_be_is_noted(deed: Callable[[SwitchBooks, Any], object], sentence: str) -> None:
    books = SwitchBooks()
    deed(books, books.opened(ORDER))
    assert [each.partition(": ")[2] for each in books.wrong] == [sentence]


def test_a_slip_shows_the_token_and_no_card_number() -> None:
    books = SwitchBooks()
    sale = books.opened(ORDER)
    books.answered(sale, YES)
    text = "\n".join(slip(sale, "KES", "500.00"))
    assert "1234 5678 9012 3456 7890" in text and "41.50" in text and "502199******0017" in text
    assert "5021990000000017" not in text and TOKEN not in repr(sale) and "5021990000000017" not in repr(sale.order)


# --- over sockets -----------------------------------------------------------------------------------------------------


@dataclass
class SmallGateway:
    """One dictionary of purchases behind the product's own link."""

    profile: Profile
    keys: SoftwareKeys | None = None
    misbehaves: str = ""
    sold: dict[str, tuple[int, str]] = field(default_factory=dict)
    taken_back: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    number: Any = field(default_factory=lambda: count(1))
    serving: set[Any] = field(default_factory=set)

    def moment(self) -> Moment:
        return Moment(asyncio.get_running_loop().time(), NOW, NOW)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        link = Session(self.profile, self.moment(), lambda: next(self.number), self.keys, {32: "627001"})
        try:
            while data := await reader.read(65_536):
                for event in link.receive(data, self.moment()):
                    match event:
                        case Came():
                            link.answer(event, *self.decide(event.request))
                        case KeyOffered():
                            link.take_key(event, self.moment())
                        case session.Refused():
                            self.refused.append(event.error.fault)
                        case Broken():
                            self.broken.append(event.why)
                            return
                writer.write(link.take_output())
        except OSError:
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def decide(self, request: Request) -> tuple[Any, Said]:
        if isinstance(request, Reversal):
            known = request.reference in self.sold
            self.taken_back.add(request.reference)
            return (Outcome.REVERSAL_ACCEPTED if known else Outcome.ORIGINAL_UNKNOWN), Said()
        if isinstance(request, Purchase):
            if request.reference in self.taken_back and self.misbehaves != "vends after reversal":
                return Reason.REVERSED_FIRST, Said()
            if request.meter == "07003012213":
                return Reason.METER_UNKNOWN, Said()
            is_new = request.reference not in self.sold or self.misbehaves == "another token"
            if is_new:
                self.sold[request.reference] = (request.amount_minor, f"{next(self.number):020d}")
            return Outcome.APPROVED, Said((TokenSaid(self.sold[request.reference][1], 4_150),))
        if isinstance(request, Reconciliation):
            back = [amount for key, (amount, _) in self.sold.items() if key in self.taken_back]
            net = sum(amount for amount, _ in self.sold.values()) - sum(back)
            in_balance = request.net_minor == -net
            return (Outcome.IN_BALANCE if in_balance else Outcome.OUT_OF_BALANCE), Said()
        return Outcome.APPROVED, Said()


@asynccontextmanager
async def together(
    profile: Profile, rates: dict[Fault, float] | None = None, seed: int = 1, misbehaves: str = "", **settings: Any
) -> AsyncIterator[tuple[BankSwitch, SmallGateway]]:
    def keys() -> SoftwareKeys | None:
        network, rules = profile.network, profile.mac
        if rules is None:
            return None
        return SoftwareKeys([KeyRecord(rules.key, Use.ZAK, ZAK), KeyRecord(network.zmk_handle, Use.ZMK, ZMK)])

    gateway = SmallGateway(profile, keys(), misbehaves)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    values: dict[str, Any] = {
        "answer_timeout_s": 0.15,
        "redial_s": 0.01,
        "terminals": (TERMINAL,),
        "loris_s": 0.01,
    } | settings
    switch = BankSwitch(
        SwitchSettings(port=server.sockets[0].getsockname()[1], fault_rates=rates or {}, **values),
        profile,
        now=lambda: NOW,
        random=seeded(seed),
        keys=keys(),
        zmk=ZMK,
    )
    await switch.start()
    try:
        await asyncio.wait_for(switch.ready(), 60)
        yield switch, gateway
    finally:
        await switch.stop()
        server.close()
        await asyncio.gather(*gateway.serving)


@pytest.mark.parametrize("name", shipped.names())
async def test_it_sells_and_takes_back_by_every_profile(name: str) -> None:
    async with together(shipped.shipped(name)) as (switch, gateway):
        sale = await switch.buy("04012345676", 50_000)
        assert sale.fate is Fate.APPROVED and sale.heard is not None and len(sale.heard.tokens) == 1
        tokens = sale.heard.tokens
        await switch.repeat(sale)
        assert sale.heard.tokens == tokens
        assert (await switch.buy("07003012213", 1_000)).fate is Fate.DECLINED
        switch.arm(Fault.NO_PAPER)
        assert (await switch.buy("04012345676", 7_000)).fate is Fate.REVERSED
        assert await switch.inquire("04012345676") is not None and await switch.echo()
        if any(rule.asked is Asked.RECONCILIATION for rule in switch.profile.messages):
            assert (await switch.reconcile(DAY)).in_balance
        file = read(day_file(switch.books, "umoja", DAY, NOW, "404"))
        assert (file.sums.purchases, file.sums.reversals_minor) == (2, 7_000)
        assert switch.books.wrong == [] and gateway.broken == []


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_with_every_fault_the_books_still_agree(seed: int) -> None:
    profile = shipped.shipped("atm87")
    rules = MacRules(Algorithm.X919, "atm87.zak", skip=frozenset({"0800", "0810"}))
    profile = replace(profile, mac=rules, link=replace(profile.link, bad_messages_max=100))
    rates = dict.fromkeys(Fault, 0.1)
    async with together(profile, rates, seed, storm_links=5, links=3) as (switch, gateway):
        await asyncio.gather(*(switch.buy("04012345676", 1_000 + number) for number in range(40)))
        assert switch.books.wrong == [] and unresolved(switch.books) == []
        stood = {key: amount for key, (amount, _) in gateway.sold.items() if key not in gateway.taken_back}
        assert sum(stood.values()) == switch.books.net_minor(), switch.counts
        assert sum(switch.counts.by_fault.values()) > 20


@pytest.mark.parametrize(
    ("misbehaves", "fault", "sentence"),
    [
        ("another token", Fault.REPEAT, "another token for a repeat"),
        ("vends after reversal", Fault.REVERSAL_FIRST, "a token after an accepted reversal"),
    ],
)
async def test_a_gateway_that_misbehaves_is_found_out(misbehaves: str, fault: Fault, sentence: str) -> None:
    async with together(shipped.shipped("atm87"), misbehaves=misbehaves, links=1) as (switch, _):
        switch.arm(fault)
        sale = await switch.buy("04012345676", 50_000)
        await switch.repeat(sale)
        assert sentence in {each.partition(": ")[2] for each in switch.books.wrong}


async def test_a_new_key_is_used_by_both_and_the_old_one_no_more() -> None:
    profile = replace(
        shipped.shipped("atm87"), mac=MacRules(Algorithm.X919, "atm87.zak", skip=frozenset({"0800", "0810"}))
    )
    async with together(profile) as (switch, gateway):
        assert await switch.change_key(lambda octets: bytes(range(7, 7 + octets))) == "00"
        assert gateway.keys is not None
        assert {status.kcv for status in gateway.keys.status() if status.generation == "active"} == {
            status.kcv for status in (switch._keys or SoftwareKeys([])).status() if status.generation == "active"
        }
        assert (await switch.buy("04012345676", 50_000)).fate is Fate.APPROVED
        switch.arm(Fault.WRONG_MAC)
        assert (await switch.buy("04012345676", 1_000)).fate is Fate.APPROVED and "MAC_WRONG" in str(gateway.refused)


async def test_a_switch_that_listens_is_dialled() -> None:
    profile = shipped.shipped("atm87")
    switch = BankSwitch(SwitchSettings(role="listen", answer_timeout_s=1), profile, now=lambda: NOW)
    await switch.start()
    gateway = SmallGateway(profile)
    reader, writer = await asyncio.open_connection("127.0.0.1", switch.port)
    serving = asyncio.create_task(gateway.serve(reader, writer))
    try:
        await asyncio.wait_for(switch.ready(), 60)
        assert (await switch.buy("04012345676", 50_000)).fate is Fate.APPROVED
    finally:
        await switch.stop()
        await serving


def test_fault_rates_need_chance() -> None:
    with pytest.raises(ValueError, match="^random: expected"):
        BankSwitch(SwitchSettings(fault_rates={Fault.CUT: 0.1}), shipped.shipped("atm87"), now=lambda: NOW)
