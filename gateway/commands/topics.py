"""Which module has which topics of `prepaid TOPIC`. Only the one asked for is read: all of them take a second."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

TOPICS: Final[Mapping[str, tuple[str, ...]]] = {
    "keys": ("keys", "operators", "audit"),
    "tokendesk": ("token",),
    "customers": ("customers",),
    "pins": ("pins",),
    "vouchers": ("vouchers",),
    "points": ("points",),
    "meters": ("meters",),
    "debts": ("debts",),
    "bulk": ("import", "export"),
    "modules": ("modules", "simulate"),
    "sms": ("sms",),
    "sources": ("sources",),
    "prices": ("price",),
    "readings": ("readings",),
    "tariffs": ("tariff",),
    "iso": ("iso",),
    "corrections": ("corrections", "account", "purchase"),
    "sell": ("sell",),
    "stations": ("stations", "commissions"),
    "suspense": ("suspense",),
    "deposits": ("deposits", "banking"),
    "settlement": ("settlement",),
    "shifts": ("shifts",),
    "bankday": ("bank",),
}
"""The topics of each module of this package."""


def add_commands(subparsers: Any, asked: str | None = None) -> None:
    """Add the commands of the topic that is asked for; of all, if there is none such."""
    known = [module for module, topics in TOPICS.items() if asked in topics]
    for module in known or TOPICS:
        importlib.import_module(f"gateway.commands.{module}").add_commands(subparsers)
