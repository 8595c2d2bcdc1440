"""`prepaid simulate smsc`: a message centre on this machine, phones at the terminal, faults on purpose. Shell."""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import Any

from channels.smpp.message_centre import (
    Account,
    CentreFull,
    CentreSettings,
    Fault,
    IdForm,
    MessageCentre,
    ReceivedReply,
)
from channels.smpp.text import Alphabet
from channels.smpp.ussd_phones import Screen, UssdPhones
from gateway.typed import on_lines, rate_of
from gateway.world import RealWorld


def add_centre(which: Any) -> None:
    """Add `smsc` to the sub-commands of `simulate`."""
    smsc = which.add_parser(
        "smsc",
        help="a message centre on loopback, SMPP 3.4",
        description="a message centre on this machine; PREPAID_SIMULATOR_PASSWORD is what gateways bind with (default: "
        "sandbox). A line PHONE SHORTCODE TEXT on standard input is sent as that phone's message; what phones receive "
        "is printed. PHONE ussd *384# dials, PHONE ussd 1 answers the screen, PHONE ussd q hangs up.",
    )
    smsc.add_argument("--port", type=int, default=2775)
    smsc.add_argument("--system-id", default="prepaid")
    smsc.add_argument("--binds-max", type=int, default=0, metavar="N", help="so many binds at one time; 0: any number")
    smsc.add_argument("--window", type=int, default=50, metavar="N")
    smsc.add_argument("--submits-per-s", type=float, default=0.0, metavar="N", help="faster ones are throttled")
    smsc.add_argument("--redeliver-after-s", type=float, default=10.0, metavar="S")
    smsc.add_argument("--slow-s", type=float, default=1.0, metavar="S", help="the delay of the fault slow_submit")
    smsc.add_argument("--alphabet", choices=[each.value for each in Alphabet], default="gsm")
    smsc.add_argument("--no-message-ids", action="store_true", help="messages from phones carry no id of their own")
    smsc.add_argument("--response-ids", choices=[each.value for each in IdForm], default="plain")
    smsc.add_argument("--receipt-ids", choices=[each.value for each in IdForm], default="plain")
    smsc.add_argument("--receipts-in", choices=("both", "text", "parameters", "none"), default="both")
    smsc.add_argument(
        "--fault",
        action="append",
        type=rate_of(Fault),
        default=[],
        metavar="NAME=RATE",
        help=f"commit this fault at this share of occasions, as in throttle=0.1; {', '.join(Fault)}",
    )
    smsc.add_argument("--ussd-ids", action="store_true", help="USSD sessions have an id of 15 bits, and no sequence")
    smsc.add_argument("--cut-at", type=int, metavar="OCTET", help="cut the first connection after so many octets")
    smsc.add_argument("--certificate", type=Path, metavar="PEM", help="serve TLS with this certificate")
    smsc.add_argument("--key", type=Path, metavar="PEM")
    smsc.set_defaults(run=_simulate)


def settings_of(options: argparse.Namespace, id_prefix: str) -> CentreSettings:
    """What the options ask for."""
    account = Account(
        options.system_id, os.environ.get("PREPAID_SIMULATOR_PASSWORD", "sandbox"), binds_max=options.binds_max
    )
    values: dict[str, Any] = {"id_tlv": None} if options.no_message_ids else {}
    return CentreSettings(
        accounts=(account,),
        port=options.port,
        window=options.window,
        submits_per_s=options.submits_per_s,
        redeliver_after_s=options.redeliver_after_s,
        slow_s=options.slow_s,
        default_alphabet=Alphabet(options.alphabet),
        id_prefix=id_prefix,
        response_ids=IdForm(options.response_ids),
        receipt_ids=IdForm(options.receipt_ids),
        receipts=options.receipts_in != "none",
        receipt_text=options.receipts_in in ("both", "text"),
        receipt_tlvs=options.receipts_in in ("both", "parameters"),
        fault_rates=dict(options.fault),
        ussd_sequence=not options.ussd_ids,
        **values,
    )


def _simulate(options: argparse.Namespace) -> int:
    world = RealWorld()
    tls = None
    if options.certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate, options.key)

    def show(reply: ReceivedReply) -> None:
        sys.stdout.write(f"{reply.destination} < {reply.source}: " + reply.text.replace("\n", "\n    ") + "\n")
        sys.stdout.flush()

    def show_screen(screen: Screen) -> None:
        rows = "".join(f"    | {row}\n" for row in screen.text.split("\n"))
        sys.stdout.write(f"{screen.phone} ussd{' (end)' if screen.is_end else ''}\n{rows}")
        sys.stdout.flush()

    async def serve() -> None:
        centre = MessageCentre(settings_of(options, world.nonce(4).hex()), on_reply=show, random=world.chance, tls=tls)
        centre.ussd.on_screen = show_screen
        await centre.start()
        if options.cut_at is not None:
            centre.cut_after(options.cut_at)
        sys.stdout.write(f"SMPP 3.4 on 127.0.0.1:{centre.port}, system_id {options.system_id}\n")
        sys.stdout.flush()

        def typed(line: str) -> None:
            phone, _, rest = line.partition(" ")
            short_code, _, text = rest.partition(" ")
            if not (phone.isdigit() and text):
                sys.stdout.write("PHONE SHORTCODE TEXT expected\n")
                sys.stdout.flush()
                return
            try:
                if short_code == "ussd":
                    _use_ussd(centre.ussd, phone, text)
                else:
                    centre.deliver(phone, short_code, text)
            except (CentreFull, KeyError) as error:
                sys.stdout.write(f"not sent: {error}\n")
                sys.stdout.flush()

        on_lines(typed)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await centre.stop()

    asyncio.run(serve())
    return 0


def _use_ussd(phones: UssdPhones, phone: str, typed: str) -> None:
    """What was typed after PHONE ussd. KeyError where there is no session to go on with."""
    if typed.startswith("*"):
        phones.dial(phone, typed)
        return
    try:
        if typed == "q":
            phones.hang_up(phone)
        else:
            phones.type(phone, typed)
    except KeyError:
        raise KeyError("no session is open: dial first, as in *384#") from None
