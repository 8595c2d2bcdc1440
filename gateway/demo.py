"""`prepaid demo`: the product at work on one machine, over the real wire.

A sample utility in the embedded database, vending keys made for the occasion, a message centre and STS meters on
loopback. Texts are sent as phones send them, replies are printed as phones show them, tokens are typed into the meters,
and the books are shown. With --once the exit code says whether everything came out as it must.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from channels.counter import CounterSale
from channels.iso8583 import shipped
from channels.iso8583.switch import BankSwitch, SwitchSettings
from channels.iso8583.switch import Fault as BankFault
from channels.iso8583.switch_books import Fate, Sale, slip
from channels.iso8583.switch_messages import Terminal
from channels.smpp.message_centre import Account, CentreSettings, Fault, MessageCentre, ReceivedReply
from channels.ussd.simulated import Phone, Provider, Shown
from config.kinds import Secret
from config.money import BankSettings
from config.settings import (
    CallbackSettings,
    DatabaseSettings,
    GatewaySettings,
    HttpSettings,
    LogSettings,
    Settings,
    SmppSettings,
    StsSettings,
    UssdKind,
    UssdSettings,
    UtilitySettings,
)
from gateway import app, custody, demokiosk, demopay, logs, till
from gateway.intake import load_folder
from gateway.keyfile import write_keystore
from gateway.metrics import Metrics
from gateway.payments.simulated.mobile_operator import Prompt
from gateway.ussd.webphones import WebPhones
from gateway.world import RealWorld, World
from ledger import operators, shifts
from ledger.audit import Origin
from ledger.bulk.kind import Record
from ledger.bulk.kinds import KINDS
from ledger.money import plain
from ledger.operators import Operator, Role
from ledger.store import migrate, open_store
from ledger.trial_balance import broken_invariants, trial_balance
from sts.derivation import VendingKey, with_odd_parity
from sts.meter import Meter, Result
from sts.meterkey import MeterKey
from sts.modules.keystore import MASTER_KEY_BYTES, NONCE_BYTES, MasterKey, seal
from sts.modules.records import VendingKeyRecord
from sts.tables import SAMPLE

FOLDER = Path(__file__).parent / "sample"
SHORT_CODE = "20777"
_METERS_MAX = 1000
USSD_CODE = "*384*777#"
_SYSTEM_ID, _PASSWORD = "umoja", "sandbox"
_BANK, _KES = "sandbox-bank", "404"
_REPLY_WITHIN_S = 10.0

UTILITY = UtilitySettings(
    code="UMOJA",
    name="Umoja Power",
    currency="KES",
    minor_digits=2,
    timezone="Africa/Nairobi",
    default_language="en",
    debt_cap_percent=Decimal(80),
)


@dataclass(frozen=True, slots=True)
class Text:
    """One text of the conversation: who sends what, and what must come of it."""

    about: str
    sender: str
    text: str
    expected: str  # a piece of the reply
    buys_for: str = ""  # the meter whose token must be in the reply
    delivered_twice: bool = False


CONVERSATION: Sequence[Text] = (
    Text("Amina buys for her meter", "254711013579", "04012345676 500", "Receipt", "04012345676"),
    Text("the network delivers Brian's text twice", "254711027158", "buy 07003012213 KES 1,000.50", "Receipt",
         "07003012213", delivered_twice=True),
    Text("a wrong digit", "254711013579", "04012345677 500", "is not right"),
    Text("a meter that nobody has", "254711013579", "04012345601 500", "do not know meter 04012345601"),
    Text("too little money in the wallet", "254711230843", "37180000442 100", "not enough"),
    Text("Daniel asks in Swahili", "254711054316", "nunua 14252321808 300", "Risiti", "14252321808"),
    Text("Omar in Arabic, for a meter with EA11", "254711203685", "٥٠٠ 07003012254", "\u00a0", "07003012254"),
    Text("an agent sells from her float", "254722000002", "01405512003 250", "Receipt", "01405512003"),
    Text("Amina deletes her token and asks again", "254711013579", "LAST", "COPY", ""),
    Text("and asks for her balance", "254711013579", "bal", "Balance KES 1,000"),
    Text("something nobody can understand", "254711013579", "is there light tomorrow?", "did not understand"),
)  # fmt: skip


class Phones:
    """The phones of the demonstration, at the message centre: they send, wait, and show."""

    def __init__(self, centre: MessageCentre) -> None:
        self._centre = centre
        self._replies: asyncio.Queue[ReceivedReply] = asyncio.Queue()
        centre.on_reply = self._replies.put_nowait

    def send(self, sender: str, text: str, *, twice: bool = False) -> None:
        """Send one text; `twice` makes the network deliver it two times."""
        if twice:
            self._centre.arm(Fault.DUPLICATE)
        self._centre.deliver(sender, SHORT_CODE, text)

    async def any_reply(self) -> ReceivedReply:
        """The next reply to whichever phone."""
        return await self._replies.get()

    async def reply(self, phone: str, within_s: float = _REPLY_WITHIN_S) -> ReceivedReply | None:
        """The next reply to this phone; None if none comes in time."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    reply = await self._replies.get()
                    if reply.destination == phone:
                        return reply
        except TimeoutError:
            return None


def make_keys(world: World, groups: Sequence[str]) -> list[VendingKeyRecord]:
    """Vending keys of both kinds for each supply group, at revision 2 on base date 2014, from the system's chance."""
    records = []
    for group in groups:
        for key in (VendingKey(2, with_odd_parity(world.nonce(8))), VendingKey(4, world.nonce(20))):
            records.append(
                VendingKeyRecord(
                    supply_group=group, key_revision=2, key_type=2, base_date=2014, key_expiry=255, key=key
                )
            )
    return records


@dataclass(slots=True)
class Sandbox:
    """A running demonstration."""

    gateway: app.Gateway
    centre: MessageCentre
    phones: Phones
    provider: Provider
    bank: BankSwitch
    market: demopay.Market
    kiosk: demokiosk.Provider
    meters: dict[str, Meter]
    world: World
    wrong: list[str] = field(default_factory=list)  # what did not come out as it must


@asynccontextmanager
async def sandbox(
    folder: Path, world: World, *, http_port: int = 0, ussd_kind: UssdKind = "africastalking"
) -> AsyncIterator[Sandbox]:
    """The sample utility, its keys, message centre, meters and gateway, serving, in this folder."""
    async with _centre(world) as centre, demopay.market(world) as market, demokiosk.provider(world) as kiosk:
        settings, records = _prepare(folder, world, centre.port, http_port)
        settings = kiosk.before(market.before(settings, world), world)
        service, *others = settings.ussd
        settings = replace(settings, ussd=(replace(service, kind=ussd_kind), *others))
        local = world.now().astimezone(settings.utility.zone)
        url = settings.database.url
        await migrate(url)
        store = await open_store(url)
        try:
            await load_folder(store, FOLDER, UTILITY, world, local)
            everyone = await store.read(lambda connection: KINDS["Meters"].page(connection, "", _METERS_MAX))
            await store.transact(lambda connection: custody.approve_sample_keys(connection, records, world.now()))
        finally:
            await store.close()
        keys = {(record.supply_group, record.dkga): record.key for record in records}
        meters = {row["drn"]: meter for row in everyone if (meter := _meter(row, keys)) is not None}
        async with app.opened(settings, world, Metrics()) as gateway:
            serving = asyncio.create_task(gateway.run())
            try:
                provider = await _ussd_provider(gateway, world)
                market.reaches(await gateway.callback_port())
                kiosk.reaches(settings, await gateway.callback_port())
                bank = _bank(gateway, world)
                try:
                    await bank.start()
                    yield Sandbox(gateway, centre, Phones(centre), provider, bank, market, kiosk, meters, world)
                finally:
                    await bank.stop()
                    await provider.close()
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)


@asynccontextmanager
async def _centre(world: World) -> AsyncIterator[MessageCentre]:
    centre = MessageCentre(CentreSettings(accounts=(Account(_SYSTEM_ID, _PASSWORD),), id_prefix=world.nonce(4).hex()))
    await centre.start()
    try:
        yield centre
    finally:
        await centre.stop()


async def _ussd_provider(gateway: app.Gateway, world: World) -> Provider:
    """A USSD provider whose phones reach this gateway's callback."""
    service = gateway.settings.ussd[0]
    port = await gateway.callback_port()
    url = f"http://127.0.0.1:{port}/ussd/{service.name}/{service.path_secret.reveal()}"
    provider = Provider(url, service.kind, USSD_CODE, lambda: f"ATUid_{world.nonce(8).hex()}", world.now)
    await provider.open()
    return provider


def _bank(gateway: app.Gateway, world: World) -> BankSwitch:
    """A bank's switch with cash machines, which will dial this gateway."""
    zone = gateway.settings.utility.zone
    settings = SwitchSettings(
        port=gateway.banks.peers[_BANK].links.port(),
        answer_timeout_s=_REPLY_WITHIN_S,
        terminals=(Terminal(acceptor="MARKET STREET", currency=_KES),),
    )
    return BankSwitch(
        settings,
        shipped.shipped(shipped.DEFAULT),
        now=world.now,
        local=lambda moment: moment.astimezone(zone),
        random=world.chance,
    )


def _prepare(folder: Path, world: World, centre_port: int, http_port: int) -> tuple[Settings, list[VendingKeyRecord]]:
    """Make and seal the keys, and write the settings of the demonstration."""
    master = world.nonce(MASTER_KEY_BYTES)
    records = make_keys(world, ("600801", "600802", "600803"))
    keystore = folder / "keys.json"
    write_keystore(keystore, seal(records, MasterKey(master), [world.nonce(NONCE_BYTES) for _ in records]))
    settings = Settings(
        gateway=GatewaySettings(node="demo"),
        utility=UTILITY,
        database=DatabaseSettings(url=f"sqlite:///{folder}/prepaid.db"),
        sts=StsSettings(keystore=str(keystore), master_key=Secret(master.hex())),
        http=HttpSettings(port=http_port),
        callbacks=CallbackSettings(port=0),
        ussd=(
            UssdSettings(name="menu", kind="africastalking", path_secret=Secret(world.nonce(16).hex())),
            UssdSettings(name="menu-smpp", kind="smpp", links="sandbox", code=USSD_CODE),
        ),
        bank=(BankSettings(name=_BANK, currency=_KES, listen="127.0.0.1:0", addresses="127.0.0.0/8"),),
        log=LogSettings(level="WARNING", format="text"),
        smpp=(
            SmppSettings(
                name="sandbox",
                host="127.0.0.1",
                port=centre_port,
                system_id=_SYSTEM_ID,
                password=Secret(_PASSWORD),
                source_addr=SHORT_CODE,
                window=50,
                reference_tlv=0x001E,
                reconnect_min_s=0.1,
            ),
        ),
    )
    return settings, records


def _meter(row: Record, keys: dict[tuple[str, int], VendingKey]) -> Meter | None:
    """The simulated meter of a record, with its key as the manufacturer put it in; None where there is no key."""
    handle = MeterKey(
        drn=row["drn"],
        iin=row["iin"],
        supply_group=row["supply_group_code"],
        key_type=row["key_type"],
        tariff_index=row["tariff_index"],
        key_revision=row["key_revision_no"],
        key_expiry=row["key_expiry_no"],
        base_date=row["base_date"],
        ea=row["encryption_algorithm"],
        dkga=row["key_generation"],
    )
    if handle.key_revision != 2 or handle.base_date != 2014:
        return None
    return Meter(handle, keys[handle.supply_group, handle.dkga].derive(handle, SAMPLE))


async def converse(box: Sandbox) -> None:
    """Send every text of the conversation, show the replies, and type the tokens into the meters."""
    for step in CONVERSATION:
        print(f"\n--- {step.about}")
        print(f"{step.sender} > {step.text}")
        box.phones.send(step.sender, step.text, twice=step.delivered_twice)
        reply = await box.phones.reply(step.sender)
        if reply is None:
            box.wrong.append(f"{step.about}: no reply")
            continue
        print("\n".join(f"    {line}" for line in reply.text.split("\n")))
        if step.expected not in reply.text:
            box.wrong.append(f"{step.about}: {step.expected!r} is not in the reply")
        if step.delivered_twice and await box.phones.reply(step.sender, within_s=0.5) is not None:
            box.wrong.append(f"{step.about}: answered twice")
        if step.buys_for:
            _type_in(box, step.about, box.meters[step.buys_for], reply.text)


async def dial(box: Sandbox) -> None:
    """One purchase by USSD: every screen, the token on the last one and by SMS, and the redial that buys nothing."""
    about, msisdn, meter = "Fatuma buys by USSD, in Swahili", "254711081474", "01405512003"
    print(f"\n--- {about}")
    phone = Phone(box.provider, msisdn)

    def show(typed: str, shown: Shown) -> None:
        print(f"{msisdn} > {typed}")
        print("\n".join(f"    | {line}" for line in shown.text.split("\n")))

    show(USSD_CODE, await phone.dial())
    for typed in ("1", "1", "300", "1"):
        show(typed, await phone.type(typed))
    token = tokens_in(phone.shown.text)
    reply = await box.phones.reply(msisdn)
    if not phone.shown.is_over or len(token) != 1 or reply is None or token != tokens_in(reply.text):
        box.wrong.append(f"{about}: the last screen and the SMS do not show the same token")
    else:
        _type_in(box, about, box.meters[meter], reply.text)
    again = await phone.dial()
    show(f"{USSD_CODE} (a moment later)", again)
    if token != tokens_in(again.text):
        box.wrong.append(f"{about}: the redial does not show what was just bought")


async def sell_at_counter(box: Sandbox) -> None:
    """A sale at a station's counter, in a cashier's shift; its receipt again is a copy with the same token."""
    about, drn, station = "a cashier sells at a station's counter", "37180000426", "ST001"
    print(f"\n--- {about}")
    cashier = Operator("op.ann", "Ann Cashier", frozenset({Role.VENDOR}), "en", station)
    store, settings, now = box.gateway.store, box.gateway.settings, box.world.now()
    shift_id, origin = box.world.new_id(), Origin(cashier.login, now, "demonstration")

    def begin(connection: Any) -> None:
        admin = Operator("adm.lee", "Lee Admin", frozenset({Role.ADMIN}), "en", None)
        for person, by in ((admin, None), (cashier, admin)):
            # Nobody can sign in with passwords that nobody knows.
            operators.add(connection, person, box.world.nonce(16).hex(), box.world.nonce(16), by=by, origin=origin)
        shifts.open_shift(connection, shift_id, 200_000, by=cashier, origin=origin)

    await store.transact(begin)
    sale = CounterSale(drn, 50_000, 1, cashier.login, station, 1, 50_000, 0, 0)
    async with till.opened(settings, box.world, store, box.gateway.module) as terminal:
        printed, again = [await terminal.sell(sale, f"{station}/op.ann-1/1") for _ in range(2)]
    for typed, answer in (("", printed), (" --sequence 1", again)):
        print(f"op.ann > prepaid sell --meter {drn} --amount 500{typed}")
        print("\n".join(f"    | {line}" for line in answer.text.split("\n")))
    if printed.outcome is not till.Outcome.SOLD or tokens_in(printed.text) != tokens_in(again.text):
        box.wrong.append(f"{about}: the copy does not show the token that was sold")
    _type_in(box, about, box.meters[drn], printed.text)


async def withdraw(box: Sandbox) -> None:
    """At a cash machine: a purchase, its repeat that gets the same token, and one that is taken back unseen."""
    bank, meter = box.bank, "07003012239"
    await asyncio.wait_for(bank.ready(2), _REPLY_WITHIN_S)
    print("\n--- at a bank's cash machine, over ISO 8583; two links, the card masked")
    first = await bank.buy(meter, 75_000)
    text = _show_slip(first)
    _type_in(box, "a cash machine", box.meters[meter], text)
    before = tokens_in(text)
    print("    the bank asks again, as if the answer had been lost (0201): ", end="")
    await bank.repeat(first)
    again = list(first.heard.tokens) if first.heard is not None else []
    print("the same token" if again == before else "another token")
    print("--- the machine has no paper: the bank takes the purchase back (0420), nobody has seen the token")
    bank.arm(BankFault.NO_PAPER)
    second = await bank.buy("37180000434", 30_000)
    _show_slip(second)
    await bank.repeat(second)
    said = second.heard.code if second.heard is not None else "nothing"
    print(f"    asked for again, it is answered {said}: the token is sealed, on every channel")
    told = await bank.reconcile(bank.business_date)
    owed = plain(bank.books.net_minor(), UTILITY.minor_digits)
    print(f"    the bank reconciles (0500): {'in' if told.in_balance else 'out of'} balance, it owes {owed}")
    if (first.fate, second.fate) != (Fate.APPROVED, Fate.REVERSED) or again != before or not told.in_balance:
        box.wrong.append("a cash machine: a purchase, its repeat or its reversal")
    if second.heard is None or second.heard.tokens:
        box.wrong.append("a cash machine: a token that was sealed came out")
    box.wrong.extend(bank.books.wrong)


def _show_slip(sale: Sale) -> str:
    text = "\n".join(slip(sale, UTILITY.currency, plain(sale.order.amount_minor, UTILITY.minor_digits)))
    print("\n".join(f"    | {line}" for line in text.split("\n")))
    return text


async def pay(box: Sandbox) -> None:
    """A phone without a wallet buys by SMS: M-Pesa asks it for the PIN, agreed to once and declined once."""
    msisdn, meter = f"{demopay.PREFIX}900001", "04012345676"
    prompts: asyncio.Queue[Prompt] = asyncio.Queue()
    operator = box.market.operator
    operator.on_prompt = prompts.put_nowait
    for about, text, pin, expected in (
        ("Grace has no wallet: M-Pesa asks her phone for the PIN", f"{meter} 500", "1234", "Receipt"),
        ("and once more, but she declines", f"{meter} 300", "", "was not agreed to"),
    ):
        print(f"\n--- {about}\n{msisdn} > {text}")
        box.phones.send(msisdn, text)
        try:
            prompt = await asyncio.wait_for(prompts.get(), _REPLY_WITHIN_S)
        except TimeoutError:
            box.wrong.append(f"{about}: no prompt")
            continue
        print(f"    M-Pesa: {operator.described(prompt)}. Enter your PIN:")
        print(f"{msisdn} > {'*' * len(pin) or '(cancel)'}")
        operator.type(msisdn, pin)
        reply = await box.phones.reply(msisdn)
        print("\n".join(f"    {line}" for line in reply.text.split("\n")) if reply else "    (nothing)")
        if reply is None or expected not in reply.text:
            box.wrong.append(f"{about}: {expected!r} is not in the reply")
        elif pin:
            _type_in(box, about, box.meters[meter], reply.text)
    await operator.idle()
    code, digits = f"clearing:{demopay.PROMPT}", UTILITY.minor_digits
    lines = {line.code: line for line in await box.gateway.store.read(trial_balance)}
    ours = lines[code].debit_minor - lines[code].credit_minor if code in lines else 0
    theirs = operator.wallets.balance_minor
    print(f"    M-Pesa's statement has {plain(theirs, digits)}, our books in {code} {plain(ours, digits)}")
    if ours != theirs:
        box.wrong.append("M-Pesa's statement and our books differ")


async def redeem(box: Sandbox) -> None:
    """A text over Africa's Talking that pays with a kiosk's voucher, which buys once and never again."""
    meter, first, second = "04012345684", f"{demokiosk.PREFIX}000001", f"{demokiosk.PREFIX}000002"
    number = await demokiosk.sold_voucher(box.gateway.store, box.gateway.settings, box.world)
    written = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    for about, phone, expected in (
        ("Hawa texts over Africa's Talking and pays with a voucher from a kiosk", first, "Receipt"),
        ("somebody else tries the same voucher", second, "used already"),
    ):
        print(f"\n--- {about}\n{phone} > {meter} {written}")
        reply = await box.kiosk.ask(phone, f"{meter} {number}", _REPLY_WITHIN_S)
        print("\n".join(f"    {line}" for line in (reply or "(nothing)").split("\n")))
        if expected not in reply:
            box.wrong.append(f"{about}: {expected!r} is not in the reply")
        elif phone == first:
            _type_in(box, about, box.meters[meter], reply)


def tokens_in(text: str) -> list[str]:
    """The 20-digit tokens in a text, in their order, whatever stands between their groups of four."""
    plain_text = "".join(c for c in text if c.isdigit() or c.isalpha() or c == "\n")
    return [run for line in plain_text.split("\n") for run in _digit_runs(line) if len(run) == 20]


def _digit_runs(line: str) -> list[str]:
    return "".join(character if character.isdigit() else " " for character in line).split()


def _type_in(box: Sandbox, about: str, meter: Meter, text: str) -> None:
    found = tokens_in(text)
    if not found:
        box.wrong.append(f"{about}: no token in the reply")
    for token in found:
        now = box.world.now()
        first = meter.enter(token, now).result
        second = meter.enter(token, now).result
        print(
            f"    meter {meter.drn}: {first.name}, shows {meter.electricity_tenths / 10:.1f} kWh;"
            f" the same token again: {second.name}"
        )
        if first is not Result.ACCEPT or second is not Result.USED:
            box.wrong.append(f"{about}: the meter said {first.name}, then {second.name}")


async def show_books(box: Sandbox) -> None:
    """Print the trial balance and whether the books keep their rules."""
    lines = await box.gateway.store.read(trial_balance)
    digits, currency = UTILITY.minor_digits, UTILITY.currency
    print(f"\n--- trial balance, {currency}\n{'account':<28}{'debit':>14}{'credit':>14}")
    for line in lines:
        debit = plain(line.debit_minor, digits) if line.debit_minor else ""
        credit = plain(line.credit_minor, digits) if line.credit_minor else ""
        print(f"{line.code:<28}{debit:>14}{credit:>14}")
    debits, credits = sum(line.debit_minor for line in lines), sum(line.credit_minor for line in lines)
    print(f"{'':<28}{plain(debits, digits):>14}{plain(credits, digits):>14}")
    if debits != credits:
        box.wrong.append("the trial balance does not balance")
    for sentence in await box.gateway.store.read(broken_invariants):
        box.wrong.append(sentence)


async def _run(folder: Path, *, once: bool) -> int:
    world = RealWorld()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with sandbox(folder, world, http_port=0) as box:
        print(f"{UTILITY.name}: a sample utility, message centre on 127.0.0.1:{box.centre.port}, files in {folder}")
        print("EA07 tokens are made with the sample tables printed in the standard; real EA07 meters refuse them.")
        await converse(box)
        await dial(box)
        await sell_at_counter(box)
        await withdraw(box)
        await pay(box)
        await redeem(box)
        await show_books(box)
        for sentence in box.wrong:
            print(f"WRONG: {sentence}")
        print("\neverything came out right" if not box.wrong else "\nsomething came out wrong")
        if not once:
            await _keep_serving(box, told)
        return 1 if box.wrong else 0


async def _keep_serving(box: Sandbox, told: asyncio.Event) -> None:
    print(f"\nstill serving; health and metrics on http://127.0.0.1:{box.gateway.health.port}/readyz and /metrics")
    print(f"a cash machine of your own: prepaid simulate bank --port {box.bank.port} --currency {_KES} --links 1")
    print("type PHONE TEXT to send a text, as in: 254711013579 04012345676 200        (Ctrl-C ends)")
    web = WebPhones(box.provider, 0, box.phones.send, box.market.operator)
    await web.start()
    print(f"phones with keys and screens, for USSD and SMS: http://127.0.0.1:{web.port}/")
    print(f"phones {demopay.PREFIX}... are asked for their M-Pesa PIN there, 1234, when they buy")
    loop = asyncio.get_running_loop()
    sys.stdout.flush()

    def typed() -> None:
        line = sys.stdin.readline()
        if not line:
            loop.remove_reader(sys.stdin.fileno())
            return
        sender, _, text = line.strip().partition(" ")
        if sender.isdigit() and text:
            box.phones.send(sender, text)

    async def show() -> None:
        while True:
            reply = await box.phones.any_reply()
            web.received(reply.destination, reply.text)
            print(f"{reply.destination} <\n" + "\n".join(f"    {line}" for line in reply.text.split("\n")), flush=True)

    showing = asyncio.create_task(show())
    try:
        if sys.stdin.isatty():
            loop.add_reader(sys.stdin.fileno(), typed)
        await told.wait()
    finally:
        showing.cancel()
        await web.stop()


def main(folder: Path | None, *, once: bool) -> int:
    """Run the demonstration in this folder, or in a temporary one; the exit code."""
    logs.set_up(LogSettings(level="ERROR", format="text"))
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            # Its keys would be made anew, and the tokens and meters of the books there would belong to other keys.
            print(f"prepaid demo: {folder}: an empty folder expected, or one that does not exist yet", file=sys.stderr)
            return 2
        return asyncio.run(_run(folder, once=once))
    with tempfile.TemporaryDirectory(prefix="prepaid-demo-") as temporary:
        return asyncio.run(_run(Path(temporary), once=once))
