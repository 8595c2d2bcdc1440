"""`prepaid simulate bank`: a bank's switch at the terminal or by a script, with faults on purpose. Shell."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from channels.iso8583 import shipped
from channels.iso8583.describe import described
from channels.iso8583.errors import IsoError
from channels.iso8583.keymodule import Use
from channels.iso8583.mac import Algorithm
from channels.iso8583.message import Message
from channels.iso8583.profile import Asked, Profile
from channels.iso8583.reading import ProfileFaults
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys, checked, combined, wrapped_key_of
from channels.iso8583.switch import BankSwitch, Fault, SwitchSettings
from channels.iso8583.switch_books import Fate, Patience, Sale, slip, unresolved
from channels.iso8583.switch_file import day_file
from channels.iso8583.switch_messages import Terminal, Totals
from gateway.commands.stations import day_of
from gateway.keysession import NO, UNUSABLE, WELL, Unusable, say, write_new
from gateway.typed import rate_of
from gateway.world import RealWorld, seeded
from ledger.money import plain, to_minor

_ZAK, _ZMK = "PREPAID_SIMULATOR_ZAK", "PREPAID_SIMULATOR_ZMK"
_MACHINE: Final = Terminal()
_BEGAN: Final = datetime(2020, 1, 1, tzinfo=UTC)  # before anything: no key was in use before the first
_READY_S: Final = 30.0
_LINKS_MAX: Final = 1_000
_WORDS: Final = (
    "BUY METER AMOUNT, CHECK METER, REPEAT [REFERENCE], ADVICE [REFERENCE], REVERSE [REFERENCE], "
    "REQUEST [REFERENCE] (a reversal that may be refused), ECHO, CUTOVER [DAY], RECON [DAY], KEY, TOTALS, CUT, "
    "FAULT NAME, FILE PATH [DAY], QUIT"
)


def add_bank(which: Any) -> None:
    """Add `bank` to the sub-commands of `simulate`."""
    bank = which.add_parser(
        "bank",
        help="a bank's switch with cash machines, ISO 8583",
        description="a bank's switch on the real wire, by any profile. Without --purchases it takes lines at the "
        f"terminal: {_WORDS}. {_ZMK} and {_ZAK} are the keys, written as zmk and zak of [[bank]]. "
        "With --purchases it sells that often, "
        "reconciles, says a line of JSON, and ends with 0, or 1 if the books differ or anything was wrong.",
    )
    bank.add_argument("--profile", default=shipped.DEFAULT, help=f"a file, or one of {', '.join(shipped.names())}")
    bank.add_argument("--host", default="127.0.0.1")
    bank.add_argument("--port", type=int, required=True)
    bank.add_argument("--role", choices=("dial", "listen"), help="by default the other one of what the profile says")
    bank.add_argument("--links", type=int, default=2, metavar="N")
    bank.add_argument(
        "--timeout-s", type=float, metavar="S", help="waits so long for answers; by default the profile's"
    )
    bank.add_argument("--repeats", type=int, default=1, metavar="N", help="asks so often again before it takes back")
    bank.add_argument("--acquirer", default=_MACHINE.acquirer, metavar="NUMBER")
    bank.add_argument("--terminals", type=int, default=1, metavar="N", help="so many cash machines take turns")
    bank.add_argument("--currency", default=_MACHINE.currency, help="as the bank writes it, digits or letters")
    bank.add_argument("--digits", type=int, default=2, help="decimals of amounts")
    bank.add_argument("--timezone", default="UTC", help="of the cash machines")
    bank.add_argument("--no-card", action="store_true", help="send no card data")
    bank.add_argument("--trace", action="store_true", help="show every message, masked, on standard error")
    bank.add_argument("--certificate", type=Path, metavar="PEM", help="speak TLS, with this certificate")
    bank.add_argument("--key", type=Path, metavar="PEM")
    bank.add_argument("--ca", type=Path, metavar="PEM", help="who signed the other side's certificate")
    bank.add_argument("--purchases", type=int, metavar="N", help="sell so often, and end")
    bank.add_argument("--parallel", type=int, default=8, metavar="N", help="so many at one time, with --purchases")
    bank.add_argument("--meters", default="", metavar="NUMBERS", help="meters that buy, separated by commas")
    bank.add_argument("--amount", default="100", metavar="MONEY")
    bank.add_argument("--seed", type=int, default=1, help="of the chance that faults happen by")
    bank.add_argument(
        "--fault",
        action="append",
        type=rate_of(Fault),
        default=[],
        metavar="NAME=RATE",
        help=f"commit this fault at this share of occasions, as in lose_answer=0.01; {', '.join(Fault)}",
    )
    bank.add_argument("--bank", default="BANK", metavar="NAME", help="the bank's name in its end-of-day file")
    bank.add_argument("--day-file", type=Path, metavar="FILE", help="write the bank's end-of-day file here at the end")
    bank.set_defaults(run=_simulate)


def settings_of(options: argparse.Namespace, first_stan: int) -> SwitchSettings:
    """What the options ask for. Raises Unusable."""
    for name, least, most in (("links", 1, _LINKS_MAX), ("terminals", 1, 10_000), ("repeats", 0, 100)):
        if not least <= getattr(options, name) <= most:
            raise Unusable(f"--{name}: {least} to {most} expected, got {getattr(options, name)}")
    base = Terminal(
        acquirer=options.acquirer,
        currency=options.currency,
        digits=options.digits,
        card=None if options.no_card else _MACHINE.card,
    )
    terminals = tuple(
        Terminal(f"ATM{number:05d}", f"BRANCH{number:09d}", base.acquirer, base.currency, base.digits, base.card)
        for number in range(1, options.terminals + 1)
    )
    return SwitchSettings(
        host=options.host,
        port=options.port,
        role=options.role or "",
        links=options.links,
        answer_timeout_s=options.timeout_s,
        terminals=terminals,
        first_stan=first_stan,
        patience=Patience(repeats=options.repeats),
        fault_rates=dict(options.fault),
    )


def keys_of(profile: Profile, zak: str, zmk: str) -> tuple[SoftwareKeys | None, Secret | None]:
    """The switch's keys, written as the gateway's settings have them. Raises Unusable."""
    network, rules = profile.network, profile.mac
    if rules is None and not zmk:
        return None, None
    try:
        cipher = "aes" if rules is not None and rules.algorithm is Algorithm.AES_CMAC else "des"
        parts = [bytes.fromhex(part) for part in zmk.split()]
        if not parts or (rules is not None and not zak):
            raise Unusable(f"{_ZMK} and {_ZAK} expected, since profile {profile.name} has MACs")
        master = combined(cipher, parts) if len(parts) > 1 else checked(cipher, parts[0])
        keys = SoftwareKeys([KeyRecord(network.zmk_handle, Use.ZMK, master)])
        if rules is not None:
            keys.install(rules.key, Use.ZAK, wrapped_key_of(zak), network.zmk_handle)
            keys.activate(rules.key, _BEGAN, 0)
    except IsoError as error:
        raise Unusable(f"{_ZMK} or {_ZAK}: {error}") from None
    except ValueError:
        raise Unusable(f"{_ZMK}: hexadecimal digits expected") from None
    return keys, master


def _simulate(options: argparse.Namespace) -> int:
    try:
        try:
            profile = shipped.profile(options.profile)
        except ProfileFaults as faults:
            raise Unusable(str(faults)) from None
        return asyncio.run(_run(options, profile))
    except (Unusable, OSError) as error:
        sys.stderr.write(f"prepaid simulate bank: {error}\n")
        return UNUSABLE


async def _run(options: argparse.Namespace, profile: Profile) -> int:
    world = RealWorld()
    zone = ZoneInfo(options.timezone)
    keys, zmk = keys_of(profile, os.environ.get(_ZAK, ""), os.environ.get(_ZMK, ""))
    # A switch that starts again goes on behind the numbers of the day.
    now = world.now()
    stan = int((now - now.astimezone(UTC).replace(hour=0, minute=0, second=0)).total_seconds() * 11)
    switch = BankSwitch(
        settings_of(options, stan),
        profile,
        now=world.now,
        local=lambda moment: moment.astimezone(zone),
        random=seeded(options.seed),
        keys=keys,
        zmk=zmk,
        tls=_tls(options, profile),
        on_message=_tracer(profile) if options.trace else None,
    )
    await switch.start()
    try:
        try:
            async with asyncio.timeout(_READY_S):
                await switch.ready()
        except TimeoutError:
            raise Unusable(f"no link to {options.host}:{options.port} is signed on within {_READY_S:.0f} s") from None
        if options.purchases is not None:
            return await _script(options, switch)
        await _Console(options, switch, world).run()
        return WELL
    finally:
        await switch.stop()
        if options.day_file is not None:
            _write_day(options, switch, options.day_file)


def _tls(options: argparse.Namespace, profile: Profile) -> ssl.SSLContext | None:
    if options.certificate is None and options.ca is None:
        return None
    for path in (options.certificate, options.key, options.ca):
        if path is not None and not path.is_file():
            raise Unusable(f"{path}: a file in PEM expected, there is none")
    listens = (options.role or ("dial" if profile.link.role == "listen" else "listen")) == "listen"
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH if listens else ssl.Purpose.SERVER_AUTH, cafile=options.ca
    )
    if options.certificate is not None:
        context.load_cert_chain(options.certificate, options.key)
    if listens and options.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _tracer(profile: Profile) -> Callable[[str, Message], None]:
    def show(direction: str, message: Message) -> None:
        lines = described(message, profile.names, profile.show)
        sys.stderr.write(f"{direction} " + "  ".join(f"{line.path}={line.shown}" for line in lines) + "\n")

    return show


def _write_day(options: argparse.Namespace, switch: BankSwitch, path: Path, day: date | None = None) -> None:
    of = day or switch.business_date
    write_new(path, day_file(switch.books, options.bank, of, switch.moment_utc(), options.currency))


# --- by a script ------------------------------------------------------------------------------------------------------


async def _script(options: argparse.Namespace, switch: BankSwitch) -> int:
    meters = [meter for meter in options.meters.split(",") if meter]
    if not meters or options.purchases < 1:
        raise Unusable("--purchases: at least one, and --meters, expected")
    amount_minor = _minor(options, options.amount)
    can_reconcile = any(rule.asked is Asked.RECONCILIATION for rule in switch.profile.messages)
    switch.is_faulty = False
    before = await switch.reconcile(switch.business_date) if can_reconcile else None
    switch.is_faulty = True
    # A meter buys once at a time, each time another amount: so nothing looks like a mistake.
    free: asyncio.Queue[str] = asyncio.Queue()
    for meter in meters:
        free.put_nowait(meter)
    room = asyncio.Semaphore(options.parallel)

    async def one(number: int) -> None:
        async with room:
            meter = await free.get()
            try:
                await switch.buy(meter, amount_minor + number)
            finally:
                free.put_nowait(meter)

    await asyncio.gather(*(one(number) for number in range(options.purchases)))
    switch.is_faulty = False
    after = await switch.reconcile(switch.business_date) if can_reconcile else None
    ours, gateway_minor = switch.books.net_minor(), None
    if before is not None and after is not None and before.theirs is not None and after.theirs is not None:
        gateway_minor = after.theirs.net_minor - before.theirs.net_minor
    open_sales = unresolved(switch.books)
    # What the gateway counted meanwhile must be what cardholders were debited with.
    differs = can_reconcile and gateway_minor != ours
    is_well = not (differs or open_sales or switch.books.wrong)
    say(
        json.dumps(
            {
                "purchases": options.purchases,
                **switch.books.counts(),
                "requests": switch.counts.requests,
                "answers": switch.counts.answers,
                "late": switch.counts.late,
                "faults": switch.counts.by_fault,
                "net_minor": ours,
                "gateway_net_minor": gateway_minor,
                "wrong": switch.books.wrong,
                "seed": options.seed,
                "well": is_well,
            }
        )
    )
    return WELL if is_well else NO


def _minor(options: argparse.Namespace, text: str) -> int:
    try:
        amount = to_minor(text, options.digits)
    except ValueError as error:
        raise Unusable(f"amount: {error}") from None
    if not 0 < amount < 10**10:
        raise Unusable(f"amount: more than nothing expected, got {text}")
    return amount


# --- at a terminal ----------------------------------------------------------------------------------------------------


class _Console:
    """Lines that are typed, one after the other."""

    def __init__(self, options: argparse.Namespace, switch: BankSwitch, world: RealWorld) -> None:
        self._options: Final = options
        self._switch: Final = switch
        self._world: Final = world

    async def run(self) -> None:
        switch = self._switch
        say(f"{switch.profile.name} on {self._options.host}:{switch.port}, {len(switch.signed_on)} links signed on")
        say(_WORDS)
        sys.stdout.flush()
        loop = asyncio.get_running_loop()
        while True:
            line = await loop.run_in_executor(None, sys.stdin.readline)
            word, *rest = line.split() or [""]
            if not line or word.upper() == "QUIT":
                return
            try:
                await self._do(word.upper(), rest)
            except (Unusable, IsoError, ValueError, OSError, argparse.ArgumentTypeError) as error:
                say(f"{error}")
            for sentence in switch.books.wrong:
                say(f"WRONG: {sentence}")
            switch.books.wrong.clear()
            sys.stdout.flush()

    async def _do(self, word: str, rest: list[str]) -> None:
        switch = self._switch
        first = rest[0] if rest else ""
        if word == "BUY" and len(rest) == 2:
            self._slip(await switch.buy(first, _minor(self._options, rest[1])))
        elif word == "CHECK" and first:
            answer = await switch.inquire(first)
            if answer is None:
                say("no answer")
            else:
                for line in described(answer, switch.profile.names, switch.profile.show):
                    say(f"  {line.path:<10} {line.name:<28} {line.shown}")
        elif word in ("REPEAT", "ADVICE", "REVERSE", "REQUEST"):
            sale = switch.books.find(first)
            if sale is None:
                raise Unusable("there is no such sale")
            if word == "REPEAT":
                await switch.repeat(sale)
            elif word == "ADVICE":
                await switch.advise(sale)
            else:
                await switch.reverse(sale, is_advice=word == "REVERSE")
                say(f"reversal {sale.order.rrn}: {sale.reversal_code or 'no answer'}")
            self._slip(sale)
        elif word == "ECHO":
            say("answered" if await switch.echo() else "no answer")
        elif word == "CUTOVER":
            code = await switch.cut_over(day_of(first))
            say(f"cut-over to {switch.business_date}: {code or 'no answer'}")
        elif word == "RECON":
            told = await switch.reconcile(day_of(first) if first else switch.business_date)
            said = "in balance" if told.in_balance else "out of balance" if told.code else "no answer"
            say(
                f"{told.code} {said}".strip() + (f"; the gateway's: {self._totals(told.theirs)}" if told.theirs else "")
            )
        elif word == "KEY":
            say(f"key change: {await switch.change_key(self._world.nonce) or 'no answer'}")
        elif word == "TOTALS":
            of_day = self._totals(switch.books.totals(switch.business_date))
            say(f"{switch.business_date}: {of_day}; of all days: net {self._amount(switch.books.net_minor())}")
        elif word == "CUT":
            switch.cut_links()
        elif word == "FAULT" and first:
            if first not in set(Fault):
                raise Unusable(f"one of {', '.join(Fault)} expected, got {first!r}")
            switch.arm(Fault(first))
            say(f"{first}: at the next occasion")
        elif word == "FILE" and first:
            day = day_of(rest[1]) if len(rest) > 1 else switch.business_date
            _write_day(self._options, switch, Path(first), day)
            say(f"{first}: the bank's end-of-day file of {day}")
        elif word:
            say(_WORDS)

    def _slip(self, sale: Sale) -> None:
        for line in slip(sale, self._options.currency, self._amount(sale.order.amount_minor)):
            say(f"    {line}")
        if sale.fate is Fate.OPEN:
            say("    what became of it is not known yet: REPEAT or REVERSE")

    def _totals(self, totals: Totals) -> str:
        bought, back = self._amount(totals.purchases_minor), self._amount(totals.reversals_minor)
        return f"bought {totals.purchases}, {bought}; taken back {totals.reversals}, {back}"

    def _amount(self, minor: int) -> str:
        return plain(minor, self._options.digits)
