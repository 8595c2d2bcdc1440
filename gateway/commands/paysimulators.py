"""`prepaid simulate payments`: providers of mobile money on this machine, their phones, faults on purpose. Shell."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channels.http.callback import NotReadable
from channels.ussd.simulated import FORMS, Provider
from gateway.payments.amounts import amount_of
from gateway.payments.simulated.africastalking import SimulatedAfricasTalking
from gateway.payments.simulated.daraja import SimulatedDaraja
from gateway.payments.simulated.faults import Fault, Faults
from gateway.payments.simulated.mobile_operator import MobileOperator, Prompt
from gateway.payments.simulated.momo import SimulatedMomo
from gateway.payments.simulated.server import SimulatedProviders
from gateway.payments.simulated.wallets import Habit, Wallets
from gateway.typed import rate_of
from gateway.ussd.webphones import WebPhones
from gateway.world import RealWorld

_LINES: Final = (
    "PHONE accept|decline|wrong|silent|off|hand says what its owner does from now on; PHONE pin 1234 answers by hand, "
    "PHONE pin declines; PHONE pay ACCOUNT AMOUNT pays our number unasked (C2B); fault NAME makes it happen next; "
    "statement writes the statement"
)


def add_payments(which: Any) -> None:
    """Add `payments` to the sub-commands of `simulate`."""
    about = "M-Pesa (Daraja), MTN MoMo and Africa's Talking on loopback, with their phones and their statement"
    parser = which.add_parser(
        "payments",
        help=about,
        description=f"{about}. Settings of a gateway name its address as base_url; the credentials are those of "
        f"docs/payment-sources.md. Lines on standard input: {_LINES}.",
    )
    parser.add_argument("--port", type=int, default=8090, help="0: any free port (default %(default)s)")
    parser.add_argument("--web", type=int, default=None, metavar="PORT", help="phones on a page; 0: any free port")
    parser.add_argument("--shortcode", default="600987", help="M-Pesa's number of ours (default %(default)s)")
    parser.add_argument("--currency", default="KES", help="default %(default)s")
    parser.add_argument("--minor-digits", type=int, default=2, metavar="N")
    parser.add_argument(
        "--checkout-url",
        default=os.environ.get("PREPAID_CHECKOUT_URL", ""),
        metavar="URL",
        help="where Africa's Talking notifies; better PREPAID_CHECKOUT_URL, for its secret",
    )
    parser.add_argument("--habit", choices=[habit.value for habit in Habit], default=None, help="of all phones")
    parser.add_argument("--answer-after-s", type=float, default=1.0, metavar="S")
    parser.add_argument("--expire-after-s", type=float, default=60.0, metavar="S")
    parser.add_argument("--delay-s", type=float, default=5.0, metavar="S", help="of the fault delay")
    parser.add_argument("--no-validation", action="store_true", help="C2B payments are not validated")
    parser.add_argument("--masked", action="store_true", help="payers' numbers come masked")
    parser.add_argument("--seed", default="", help="the same seed, the same faults")
    parser.add_argument("--statement", type=Path, metavar="CSV", help="written at the end, and on the line `statement`")
    parser.add_argument(
        "--fault",
        action="append",
        type=rate_of(Fault),
        default=[],
        metavar="NAME=RATE",
        help=f"at this share of occasions, as in lose=0.1; {', '.join(Fault)}",
    )
    parser.set_defaults(run=_simulate)


@dataclass(slots=True)
class _Bench:
    """What a line on standard input may do."""

    operator: MobileOperator
    daraja: SimulatedDaraja
    statement: Path | None

    def obey(self, line: str) -> str:
        """Carry a line out; what to say to that."""
        words = line.split()
        if words == ["statement"]:
            return self.write()
        if len(words) == 2 and words[0] == "fault":
            try:
                self.operator.faults.arm(Fault(words[1]))
            except ValueError:
                return f"one of {', '.join(Fault)} expected"
            return f"next: {words[1]}"
        if len(words) < 2 or not words[0].isdigit():
            return _LINES
        return self._phone(words[0], words[1], words[2:])

    def _phone(self, phone: str, deed: str, rest: list[str]) -> str:
        if deed == "pin" and len(rest) <= 1:
            return "" if self.operator.type(phone, "".join(rest)) else f"{phone} is not asked for a PIN"
        if deed == "pay" and len(rest) == 2:
            try:
                amount = amount_of(rest[1], "AMOUNT", self.operator.wallets.minor_digits)
            except NotReadable as fault:
                return f"an amount such as 500 expected: {fault.why}"
            self.daraja.pay(phone, amount, rest[0])
            return f"{phone} pays {rest[1]}, account {rest[0]}"
        try:
            self.operator.wallets.phone(phone).habit = Habit(deed)
        except ValueError:
            return _LINES
        return f"{phone}: {deed}"

    def write(self) -> str:
        """Write the statement into its file, or give it."""
        text = self.operator.wallets.statement()
        if self.statement is None:
            return text.rstrip("\n")
        self.statement.write_text(text, encoding="utf-8")
        return f"{self.statement}: {len(self.operator.wallets.transactions)} lines"


def _say(words: str) -> None:
    if words:
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()


def _simulate(options: argparse.Namespace) -> int:
    world = RealWorld()
    habit = Habit(options.habit) if options.habit else Habit.ACCEPT if options.web is None else Habit.BY_HAND
    wallets = Wallets(minor_digits=options.minor_digits, habit=habit)
    faults = Faults(rates=dict(options.fault), seed=options.seed)
    operator = MobileOperator(
        wallets,
        faults,
        world.now,
        answer_after_s=options.answer_after_s,
        expire_after_s=options.expire_after_s,
        delay_s=options.delay_s,
    )
    daraja = SimulatedDaraja(
        operator, shortcode=options.shortcode, validates=not options.no_validation, masks=options.masked
    )
    checkout = SimulatedAfricasTalking(operator, currency=options.currency, callback_url=options.checkout_url)
    momo = SimulatedMomo(operator, currency=options.currency)
    server = SimulatedProviders((daraja, momo, checkout), faults, wallets.statement, options.port)
    bench = _Bench(operator, daraja, options.statement)

    def show(prompt: Prompt) -> None:
        _say(f"{prompt.msisdn} is asked: {operator.described(prompt)}")

    operator.on_prompt = show

    async def serve() -> None:
        ussd = Provider(
            os.environ.get("PREPAID_USSD_URL", ""),
            next(iter(FORMS)),
            "*384*1234#",
            lambda: str(world.new_id()),
            world.now,
        )
        await operator.open()
        await ussd.open()
        web = None
        try:
            await server.start()
            _say(f"Daraja, MoMo and Africa's Talking on {server.url}, statement on {server.url}/statement.csv")
            if options.web is not None:
                web = WebPhones(ussd, options.web, purse=operator)
                await web.start()
                _say(f"phones on http://127.0.0.1:{web.port}/, their PIN is 1234")
            _listen(bench)
            told = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, told.set)
            await told.wait()
        finally:
            if web is not None:
                await web.stop()
            await server.stop()
            await operator.close()
            await ussd.close()
            if options.statement is not None:
                _say(bench.write())

    asyncio.run(serve())
    return 0


def _listen(bench: _Bench) -> None:
    loop = asyncio.get_running_loop()

    def typed() -> None:
        line = sys.stdin.readline()
        if not line:
            loop.remove_reader(sys.stdin.fileno())
        elif line.strip():
            _say(bench.obey(line.strip()))

    try:
        loop.add_reader(sys.stdin.fileno(), typed)
    except (OSError, ValueError):  # no terminal and no pipe: it serves all the same
        pass
