"""`prepaid modules list` and `prepaid simulate prism`: what the configured modules are, and a module to try against."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from config.load import load
from config.settings import Settings
from gateway.commands import africastalking as africastalking_commands
from gateway.commands import banksimulator as banksimulator_commands
from gateway.commands import paysimulators as paysimulators_commands
from gateway.commands import simulators as simulators_commands
from gateway.commands import ussd as ussd_commands
from gateway.keptkeys import members_of
from gateway.modules import load_module, load_software, load_tables
from gateway.modulewatch import ModuleReport, reports_now
from gateway.world import RealWorld
from sts.modules.contract import ModuleStatus
from sts.modules.prism.simulated import Account, Faults
from sts.modules.prism.simulator import PrismSimulator, SimulatorSettings

_HTTP_S: Final = 3.0
_METRICS_BYTES_MAX: Final = 4 * 1024 * 1024


def add_commands(subparsers: Any) -> None:
    """Add `modules` and `simulate` to an argparse sub-parsers object; each sets `run`, options to exit code."""
    about = "look at the security modules of the settings"
    modules = subparsers.add_parser("modules", help=about, description=about)
    what = modules.add_subparsers(dest="modules_command", required=True, metavar="WHAT")
    listing = what.add_parser("list", help="each module with its keys, what it says of itself, and its queue")
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
    prism.add_argument("--vends-until", type=_instant, metavar="INSTANT", help="as in 2026-12-31T00:00Z")
    prism.set_defaults(run=_simulate_prism)
    simulators_commands.add_centre(which)
    banksimulator_commands.add_bank(which)
    paysimulators_commands.add_payments(which)
    ussd_commands.add_simulator(which)
    africastalking_commands.add_simulator(which)


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError("a time with its zone expected")
    return moment


def _list(options: argparse.Namespace) -> int:
    options.settings = settings = load(options.config, os.environ)
    module = load_module(settings)
    told = {report.name: report for report in reports_now(settings)}
    running = _running(settings)
    for member in members_of(module):
        lines = lines_of(member.status())
        if member.name in told:
            lines += facts_of(told[member.name])
        if running is not None:
            lines += [f"  at the gateway: {running[member.name]}"] if member.name in running else []
        for line in lines:
            sys.stdout.write(line + "\n")
    if running is None:
        http = settings.http
        sys.stdout.write(f"no gateway answers at {http.host}:{http.port}: queues and rests are not known\n")
    return 0


def facts_of(report: ModuleReport) -> list[str]:
    """What a module says of itself, for people."""
    if report.trouble:
        return [f"  could not be asked: {report.trouble}"]
    lines = []
    if report.tokens_per_s is not None:
        lines.append(f"  makes {report.tokens_per_s:g} tokens a second, it says")
    if report.clock_drift_s is not None:
        lines.append(f"  its clock is out by {report.clock_drift_s:g} s")
    if report.vends_until is not None:
        lines.append(f"  may vend until {report.vends_until:%Y-%m-%d %H:%M} UTC")
    lines += [f"  alert: {alert}" for alert in report.alerts]
    return lines


def _running(settings: Settings) -> dict[str, str] | None:
    """How each module of the gateway that runs on this machine does; None if none answers."""
    http = settings.http
    host = f"[{http.host}]" if ":" in http.host else http.host
    try:
        with urlopen(f"http://{host}:{http.port}/metrics", timeout=_HTTP_S) as answer:  # a setting, never user input
            text = answer.read(_METRICS_BYTES_MAX).decode("utf-8", errors="replace")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (OSError, ValueError, HTTPException):
        return None
    values: dict[str, dict[str, float]] = {}
    for sample in samples:
        if sample.name.startswith("prepaid_module_") and "module" in sample.labels:
            values.setdefault(sample.labels["module"], {})[sample.name.removeprefix("prepaid_module_")] = sample.value
    return {name: _doing(found) for name, found in values.items() if "waiting" in found}


def _doing(found: Mapping[str, float]) -> str:
    rate, rests = found.get("rate_limit", 0), found.get("rests_seconds", 0)
    return (
        f"{found.get('asked_total', 0):.0f} requests so far, {found.get('at_work', 0):.0f} at work, "
        f"{found['waiting']:.0f} waiting, {found.get('in_doubt', 0):.0f} in doubt, "
        + (f"at most {rate:g} a second, " if rate else "")
        + (f"rests for {rests:.0f} s after {found.get('failures', 0):.0f} failures" if rests else "does not rest")
    )


def lines_of(status: ModuleStatus) -> list[str]:
    """A module's status for people; never key bytes."""
    accepted = "" if status.real_meters_accept_ea07 else " (real EA07 meters refuse its EA07 tokens)"
    lines = [f"{status.name}: EA07 tables {status.table_set}{accepted}, {len(status.keys)} keys"]
    for key in status.keys:
        until = f", until {key.issued_until:%Y-%m-%d}" if key.issued_until else ""
        lines.append(
            f"  supply group {key.supply_group} revision {key.key_revision} type {key.key_type} DKGA{key.dkga:02d} "
            f"base date {key.base_date} KEN {key.key_expiry} KCV {key.kcv or 'not told'}{until}"
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
        vends_until=options.vends_until,
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
