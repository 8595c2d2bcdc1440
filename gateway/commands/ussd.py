"""`prepaid simulate ussd`: a phone in the terminal, or phones on a web page, against any gateway's USSD callback."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any, Final

from channels.ussd.simulated import FORMS, Fault, Phone, Provider
from gateway.ussd.webphones import WebPhones
from gateway.world import RealWorld

_HELP: Final = "type * and the code to dial, digits to answer, q to hang up; !lost, !repeat or !delay before a fault"


def add_simulator(which: Any) -> None:
    """Add `ussd` to the sub-parsers of `prepaid simulate`."""
    about = "a USSD provider with its phones: in the terminal, or with --web on a page"
    parser = which.add_parser("ussd", help=about, description=f"{about}. In the terminal: {_HELP}.")
    parser.add_argument(
        "--url",
        default=os.environ.get("PREPAID_USSD_URL", ""),
        help="the gateway's callback, http://127.0.0.1:8081/ussd/menu/SECRET; better PREPAID_USSD_URL, for its secret",
    )
    parser.add_argument("--kind", choices=sorted(FORMS), default="africastalking", help="the provider's form")
    parser.add_argument("--code", default="*384*1234#", help="the service code (default %(default)s)")
    parser.add_argument("--phone", default="254711013579", metavar="MSISDN", help="whose phone (default %(default)s)")
    parser.add_argument("--header", default="", metavar="NAME", help="a header whose value is PREPAID_USSD_HEADER")
    parser.add_argument(
        "--web", type=int, default=None, metavar="PORT", help="serve phones on a page; 0: any free port"
    )
    parser.set_defaults(run=_simulate)


def _simulate(options: argparse.Namespace) -> int:
    if not options.url:
        sys.stderr.write("prepaid simulate ussd: --url or PREPAID_USSD_URL: an address expected, got none\n")
        return 2
    world = RealWorld()
    headers = {options.header: os.environ.get("PREPAID_USSD_HEADER", "")} if options.header else {}
    provider = Provider(
        options.url, options.kind, options.code, lambda: f"sim-{world.new_id()}", world.now, headers=headers
    )

    async def run() -> None:
        await provider.open()
        try:
            if options.web is None:
                await _in_the_terminal(Phone(provider, options.phone))
                return
            phones = WebPhones(provider, options.web)
            await phones.start()
            sys.stdout.write(f"phones on http://127.0.0.1:{phones.port}/\n")
            sys.stdout.flush()
            try:
                await asyncio.Event().wait()
            finally:
                await phones.stop()
        finally:
            await provider.close()

    asyncio.run(run())
    return 0


async def _in_the_terminal(phone: Phone) -> None:
    sys.stdout.write(f"{_HELP}\n")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    while True:
        sys.stdout.write(f"{phone.msisdn}> ")
        sys.stdout.flush()
        line = await loop.run_in_executor(None, sys.stdin.readline)
        typed = line.strip()
        if not line:
            sys.stdout.write("\n")
            return
        if typed.startswith("!"):
            phone.fault = next((fault for fault in Fault if fault.value == typed[1:]), None)
            sys.stdout.write(f"next: {phone.fault.value if phone.fault else 'no such fault'}\n")
            continue
        if typed == "q":
            phone.hang_up()
            continue
        shown = await (phone.dial(typed) if phone.shown.is_over or typed.startswith("*") else phone.type(typed))
        sys.stdout.write("".join(f"| {row}\n" for row in shown.text.split("\n")) + ("END\n" if shown.is_over else ""))
        sys.stdout.flush()
