"""`prepaid modules list` and `prepaid simulate prism`: what the configured modules are, and a module to try against."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from config.load import load
from gateway.modules import load_module, load_software, load_tables
from gateway.world import RealWorld
from sts.modules.contract import ModuleStatus
from sts.modules.pool import ModulePool
from sts.modules.prism.simulated import Account, Faults
from sts.modules.prism.simulator import PrismSimulator, SimulatorSettings


def add_commands(subparsers: Any) -> Any:
    """Add `modules` and `simulate` to an argparse sub-parsers object; each sets `run`, options to exit code.

    Gives the sub-parsers of `simulate`, for other simulators.
    """
    about = "look at the security modules of the settings"
    modules = subparsers.add_parser("modules", help=about, description=about)
    what = modules.add_subparsers(dest="modules_command", required=True, metavar="WHAT")
    listing = what.add_parser("list", help="each module with its keys by their check values")
    listing.add_argument("--config", type=Path, required=True, metavar="FILE")
    listing.set_defaults(run=_list)

    about = "simulators that speak the real wire, with faults on purpose"
    simulate = subparsers.add_parser("simulate", help=about, description=about)
    which = simulate.add_subparsers(dest="simulate_command", required=True, metavar="WHICH")
    prism = which.add_parser(
        "prism",
        help="a module behind Prism's TokenApi, on loopback",
        description="a module behind Prism's TokenApi on this machine, with the keys of the settings' key store; "
        "PREPAID_SIMULATOR_PASSWORD is what gateways sign in with (default: sandbox)",
    )
    prism.add_argument("--config", type=Path, required=True, metavar="FILE")
    prism.add_argument("--port", type=int, default=9443)
    prism.add_argument("--certificate", type=Path, metavar="PEM", help="serve TLS with this certificate")
    prism.add_argument("--key", type=Path, metavar="PEM")
    prism.add_argument("--tokens-per-s", type=float, metavar="N", help="as slow as this; real serial modules report 3")
    prism.add_argument("--delay-s", type=float, default=0.0, help="before every answer")
    prism.add_argument("--lose-answers", type=int, default=0, metavar="N", help="make N tokens and hang up")
    prism.add_argument("--silent", action="store_true", help="take calls and never answer")
    prism.add_argument("--out-of-service", action="store_true")
    prism.set_defaults(run=_simulate_prism)
    return which


def _list(options: argparse.Namespace) -> int:
    module = load_module(load(options.config, os.environ))
    members = module.members if isinstance(module, ModulePool) else [module]
    for member in members:
        for line in lines_of(member.status()):
            sys.stdout.write(line + "\n")
    return 0


def lines_of(status: ModuleStatus) -> list[str]:
    """A module's status for people; never key bytes."""
    accepted = "" if status.real_meters_accept_ea07 else " (real EA07 meters refuse its EA07 tokens)"
    lines = [f"{status.name}: EA07 tables {status.table_set}{accepted}, {len(status.keys)} keys"]
    for key in status.keys:
        until = f", until {key.issued_until:%Y-%m-%d}" if key.issued_until else ""
        lines.append(
            f"  supply group {key.supply_group} revision {key.key_revision} type {key.key_type} DKGA{key.dkga:02d} "
            f"base date {key.base_date} KEN {key.key_expiry} KCV {key.kcv}{until}"
        )
    return lines


def _simulate_prism(options: argparse.Namespace) -> int:
    settings = load(options.config, os.environ)
    module = load_software(settings.sts, load_tables(settings.sts))
    faults = Faults(
        tokens_per_s=options.tokens_per_s,
        delay_s=options.delay_s,
        silent=options.silent,
        out_of_service=options.out_of_service,
        answers_lost=options.lose_answers,
    )
    password = os.environ.get("PREPAID_SIMULATOR_PASSWORD", "sandbox")
    simulator = PrismSimulator(
        module,
        SimulatorSettings(
            port=options.port,
            account=Account(password=password),
            certificate_file=options.certificate,
            key_file=options.key,
        ),
        now=RealWorld().now,
        faults=faults,
    )

    async def serve() -> None:
        async with simulator:
            sys.stdout.write(f"TokenApi on 127.0.0.1:{simulator.port}, {len(module.status().keys)} keys\n")
            sys.stdout.flush()
            await asyncio.Event().wait()

    asyncio.run(serve())
    return 0
