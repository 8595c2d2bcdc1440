"""Texts of an operator about payments, forwarded to our short code: a stop-gap where a source has no interface. Shell.

A text that has the form of an operator's receipt, from a sender that is allowed, is kept as a pending payment: nothing
is sold and no money is booked until the source's statement names the receipt. What pretends to be one, from anybody
else, is counted and then treated as what it is, a customer's text.

A file of patterns:

    [[pattern]]                    the first that fits the whole text counts
    text = '''(?P<receipt>[A-Z0-9]{10}) Confirmed\\. .*Ksh(?P<amount>[0-9,.]+) received from (?P<payer>\\d{12}) .*'''
    group_mark = ","               between thousands; decimal_mark = "."

receipt and amount are needed, payer and account_ref may be there.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from channels.commands import Command, Unreadable
from channels.contract import Desk, Inbound, NotStored
from config.money import OperatorTextSettings
from gateway.metrics import Metrics
from gateway.settlement.desk import phone_in
from gateway.world import World
from ledger import pendingpayments
from ledger.money import to_minor
from ledger.pendingpayments import Pending
from ledger.reasons import Reason

log = logging.getLogger(__name__)

_TEXT_MAX: Final = 1_000
_SIZE_MAX: Final = 100_000
_NEEDED: Final = ("receipt", "amount")
_GROUPS: Final = (*_NEEDED, "payer", "account_ref")
_RECEIPT: Final = re.compile(r"[A-Za-z0-9._/-]{4,40}")


class BadPatterns(Exception):
    """A file of patterns cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One form of an operator's texts."""

    form: re.Pattern[str]
    decimal_mark: str = "."
    group_mark: str = ","


@dataclass(frozen=True, slots=True)
class Said:
    """What an operator's text says."""

    source: str
    receipt: str
    amount_minor: int
    payer: str
    account_ref: str


@dataclass(frozen=True, slots=True)
class OperatorText(Unreadable):
    """A text with the form of an operator's; `ordinary` is what it would be from a customer."""

    said: tuple[Said, ...] = field(default=(), kw_only=True)
    ordinary: Command = field(default=Unreadable(Reason.UNREADABLE), kw_only=True)


def read_patterns(name: str, text: str) -> list[Pattern]:
    """The patterns of a file. Raises BadPatterns."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadPatterns(f"{name}: {error}") from None
    tables = document.get("pattern")
    if not isinstance(tables, list) or not tables or set(document) != {"pattern"}:
        raise BadPatterns(f"{name}: one or more [[pattern]] expected, and nothing else")
    return [_pattern(f"{name}: pattern {number}", table) for number, table in enumerate(tables, start=1)]


def _pattern(where: str, table: Any) -> Pattern:
    known = {"text", "decimal_mark", "group_mark"}
    if not isinstance(table, dict) or not set(table) <= known or not isinstance(table.get("text"), str):
        raise BadPatterns(f"{where}: text expected, and decimal_mark and group_mark at most")
    try:
        form = re.compile(table["text"], re.DOTALL)
    except re.error as error:
        raise BadPatterns(f"{where}: {error}") from None
    if missing := [name for name in _NEEDED if name not in form.groupindex]:
        raise BadPatterns(f"{where}: a group (?P<{missing[0]}>...) expected")
    if unknown := [name for name in form.groupindex if name not in _GROUPS]:
        raise BadPatterns(f"{where}: there is no group {unknown[0]!r} (there are: {', '.join(_GROUPS)})")
    decimal, group = table.get("decimal_mark", "."), table.get("group_mark", ",")
    if decimal not in (".", ",") or group not in ("", ",", ".", " ", "'") or decimal == group:
        raise BadPatterns(f"{where}: decimal_mark and group_mark: two unlike marks expected")
    return Pattern(form, decimal, group)


def load_patterns(path: Path) -> list[Pattern]:
    """The patterns of the file at this path. Raises BadPatterns."""
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_MAX + 1)
        if len(raw) > _SIZE_MAX:
            raise BadPatterns(f"{path}: at most {_SIZE_MAX} octets expected")
        return read_patterns(str(path), raw.decode("utf-8"))
    except OSError as error:
        raise BadPatterns(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BadPatterns(f"{path}: text in UTF-8 expected: {error.reason}") from None


def read_text(source: str, patterns: Sequence[Pattern], text: str, minor_digits: int) -> Said | None:
    """What an operator's text says; None if it has none of the forms, or no amount that can be."""
    if len(text) > _TEXT_MAX:
        return None
    for pattern in patterns:
        found = pattern.form.fullmatch(text.strip())
        if found is None:
            continue
        parts = {name: (found[name] or "").strip() for name in found.re.groupindex}
        amount = parts["amount"].rstrip(".,")
        if pattern.group_mark:
            amount = amount.replace(pattern.group_mark, "")
        try:
            minor = to_minor(amount.replace(pattern.decimal_mark, "."), minor_digits)
        except ValueError:
            return None
        if not 0 < minor <= 10**15 or not _RECEIPT.fullmatch(parts["receipt"]):
            return None
        return Said(
            source, parts["receipt"], minor, phone_in(parts.get("payer", "")), parts.get("account_ref", "")[:40]
        )
    return None


class OperatorTexts:
    """Operators' texts of all sources: told apart where texts are read, kept before the desk sees them."""

    def __init__(
        self,
        settings: Sequence[OperatorTextSettings],
        *,
        minor_digits: int,
        currency: str,
        write: Callable[[Callable[[Any], Any]], Awaitable[Any]],
        world: World,
        metrics: Metrics,
    ) -> None:
        self._places = [(one, load_patterns(Path(one.patterns_file))) for one in settings]
        self._minor_digits = minor_digits
        self._currency = currency
        self._write = write
        self._world = world
        self._metrics = metrics

    def reading(self, ordinary: Callable[[str], Command]) -> Callable[[str], Command]:
        """How texts are read, with operators' texts told apart."""
        if not self._places:
            return ordinary

        def read(text: str) -> Command:
            said = tuple(
                found
                for one, patterns in self._places
                if (found := read_text(one.name, patterns, text, self._minor_digits)) is not None
            )
            return OperatorText(Reason.UNREADABLE, said=said, ordinary=ordinary(text)) if said else ordinary(text)

        return read

    def before(self, desk: Desk) -> Desk:
        """A desk that keeps operators' texts, and hands on all else."""
        return _Before(self, desk) if self._places else desk

    async def keep(self, inbound: Inbound, told: OperatorText) -> bool:
        """Keep what an operator says as pending; False if the sender may not say it. Raises NotStored."""
        for said in told.said:
            place = next(one for one, _ in self._places if one.name == said.source)
            if not _is_allowed(place, inbound):
                continue
            row = Pending(
                self._world.new_id(), said.source, said.receipt, said.amount_minor, self._currency, said.payer,
                said.account_ref, inbound.sender, inbound.received_at,
            )  # fmt: skip
            try:
                fate = await self._write(partial(pendingpayments.keep, said=row))
            except Exception as error:  # whatever it was, the message centre shall send it again
                log.exception("an operator's text could not be stored", extra={"source": said.source})
                self._metrics.not_stored("operator_text")
                raise NotStored(type(error).__name__) from error
            self._metrics.payment_said(said.source, "TEXT", fate)
            if fate == pendingpayments.DIFFERS:
                log.error("an operator's text says otherwise than the first", extra={"source": said.source})
            return True
        for said in told.said:
            log.warning("a text pretends to be an operator's", extra={"source": said.source})
            self._metrics.callback_refused(f"operator_text:{said.source}", "SENDER")
        return False


def _is_allowed(place: OperatorTextSettings, inbound: Inbound) -> bool:
    senders = {sender.casefold() for sender in place.senders.split()}
    return inbound.sender.casefold() in senders and (not place.code or inbound.destination == place.code)


@dataclass(frozen=True, slots=True)
class _Before:
    texts: OperatorTexts
    desk: Desk

    async def receive(self, inbound: Inbound) -> None:
        command = inbound.command
        if isinstance(command, OperatorText):
            if await self.texts.keep(inbound, command):
                return
            values = {name: getattr(inbound, name) for name in Inbound.__slots__ if name != "command"}
            inbound = Inbound(**values, command=command.ordinary)
        await self.desk.receive(inbound)
