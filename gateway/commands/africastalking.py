"""`prepaid simulate africastalking`: the provider's SMS API on this machine, phones at the terminal, faults. Shell."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from channels.africastalking.simulator import Fault, Received, Simulator, SimulatorSettings
from gateway.typed import on_lines, rate_of
from gateway.world import RealWorld


def add_simulator(which: Any) -> None:
    """Add `africastalking` to the sub-parsers of `prepaid simulate`."""
    about = "the SMS API of Africa's Talking on loopback"
    parser = which.add_parser(
        "africastalking",
        help=about,
        description=f"{about}: set base_url of an [[africastalking]] table to the address that it prints. "
        "PREPAID_SIMULATOR_KEY is the API key it takes (default: sandbox). A line PHONE SHORTCODE TEXT on standard "
        "input is sent as that phone's message, PHONE stop opts out of what is sent; what phones receive is printed.",
    )
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--username", default="sandbox")
    parser.add_argument(
        "--callback",
        default=os.environ.get("PREPAID_SMS_URL", ""),
        help="the gateway's address for messages, http://127.0.0.1:8081/sms/NAME/SECRET; better PREPAID_SMS_URL, for "
        "its secret",
    )
    parser.add_argument("--slow-s", type=float, default=1.0, metavar="S", help="how late the slow and delayed are")
    parser.add_argument(
        "--fault",
        action="append",
        type=rate_of(Fault),
        default=[],
        metavar="NAME=RATE",
        help=f"commit this fault at this share of occasions, as in error=0.1; {', '.join(Fault)}",
    )
    parser.set_defaults(run=_simulate)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _simulate(options: argparse.Namespace) -> int:
    world = RealWorld()
    settings = SimulatorSettings(
        username=options.username,
        api_key=os.environ.get("PREPAID_SIMULATOR_KEY", "sandbox"),
        callback=options.callback,
        port=options.port,
        slow_s=options.slow_s,
        rates=dict(options.fault),
    )

    def show(received: Received) -> None:
        _say(f"{received.phone} < {received.sender}: " + received.text.replace("\n", "\n    "))

    async def serve() -> None:
        simulator = Simulator(settings, new_id=lambda: str(world.new_id()), random=world.chance, on_text=show)
        await simulator.start()
        _say(f"Africa's Talking's SMS API on http://127.0.0.1:{simulator.port}, user {settings.username}")
        if not settings.callback:
            _say("no --callback: what phones send reaches nobody, and no reports are made")

        def typed(line: str) -> None:
            phone, _, rest = line.partition(" ")
            short_code, _, text = rest.partition(" ")
            if phone.isdigit() and rest == "stop":
                simulator.opt_out(phone)
            elif phone.isdigit() and text:
                simulator.text(phone, short_code, text)
            else:
                _say("PHONE SHORTCODE TEXT expected")

        on_lines(typed)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await simulator.stop()

    asyncio.run(serve())
    return 0
