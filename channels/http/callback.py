"""A provider's callback as plain values, read strictly, and what is answered. Pure.

A field that comes twice, a value that is no text, a body that is not what its type says: `NotReadable`, with a name for
the log and the counters and without the value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FIELDS_MAX: Final = 100
_MSISDN: Final = re.compile(r"[0-9]{7,15}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class NotReadable(Exception):
    """A callback that makes no sense. `why` is a stable name, `where` the field it is about."""

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(f"{why}: {where}" if where else why)
        self.why: Final = why
        self.where: Final = where


@dataclass(frozen=True, slots=True, repr=False)
class Callback:
    """One HTTP request. In no repr: bodies hold phone numbers, PINs, tokens."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = ""

    def form(self) -> dict[str, str]:
        """The fields of a form, from the body of a POST or the query of a GET. Raises NotReadable."""
        if self.method == "GET":
            return _pairs(self.query)
        if self.content_type != "application/x-www-form-urlencoded":
            raise NotReadable("content_type")
        try:
            return _pairs(self.body.decode("utf-8"))
        except UnicodeDecodeError:
            raise NotReadable("encoding") from None

    def json(self) -> dict[str, Any]:
        """The members of a JSON object. Raises NotReadable."""
        if self.content_type not in ("application/json", "text/json"):
            raise NotReadable("content_type")
        return json_of(self.body)


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What is answered."""

    body: str = ""
    content_type: str = "text/plain"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def json_of(body: bytes) -> dict[str, Any]:
    """The members of a JSON object, no name twice; numbers with a fraction as Decimal. Raises NotReadable."""
    try:
        found = json.loads(body, object_pairs_hook=_members, parse_constant=_no_constant, parse_float=Decimal)
    except NotReadable:
        raise
    except (ValueError, ArithmeticError, RecursionError):
        raise NotReadable("json") from None
    if not isinstance(found, dict):
        raise NotReadable("json")
    return found


def _pairs(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=_FIELDS_MAX
        )
    except (ValueError, UnicodeDecodeError):
        raise NotReadable("form") from None
    return _members(pairs)


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise NotReadable("repeated", name[:40])
        found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise NotReadable("json")


def text_of(fields: Mapping[str, Any], name: str, longest: int, *, may_be_empty: bool = False) -> str:
    """A field as text without control characters, within a length; numbers of JSON count as their digits."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None and not may_be_empty:
        raise NotReadable("missing", name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NotReadable("not_text", name)
    if len(value) > longest:
        raise NotReadable("too_long", name)
    if _CONTROL.search(value):
        raise NotReadable("control_character", name)
    if not value and not may_be_empty:
        raise NotReadable("empty", name)
    return value


def msisdn_of(fields: Mapping[str, Any], name: str, country_code: str = "") -> str:
    """A phone number as digits with country code, no plus. A national number gets `country_code` for its zero."""
    number = text_of(fields, name, 32).replace(" ", "").replace("-", "").removeprefix("+").removeprefix("00")
    if country_code and number.startswith("0"):
        number = country_code + number[1:]
    if not _MSISDN.fullmatch(number) or number.startswith("0"):
        raise NotReadable("phone_number", name)
    return number


def networks(text: str) -> tuple[Network, ...]:
    """Networks separated by blanks or commas, "196.201.214.0/24 10.0.0.5". ValueError with the one that is none."""
    found: list[Network] = []
    for part in re.split(r"[\s,]+", text.strip()):
        if part:
            try:
                found.append(ipaddress.ip_network(part))
            except ValueError:
                raise ValueError(part) from None
    return tuple(found)


def is_within(address: str, allowed: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks; IPv4 inside IPv6 counts as IPv4."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in allowed if network.version == (mapped or found).version)
