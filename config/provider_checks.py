"""What must fit together in the settings of accounts at providers of money. Pure.

Each check is told a section's values, and gives its faults to the reader of the settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class Reader(Protocol):
    """Who collects faults."""

    def fault(self, where: str, value: object, expected: str, came: str) -> None:
        """Note one: the path of the key, what was given, what was expected, what came."""


def mpesa(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """An account at Daraja."""
    _address(reader, table, where, values)
    _whole(reader, where, values, ("consumer_key", "consumer_secret"), ("initiator", "security_credential"))


def momo(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """An account at MTN MoMo."""
    _address(reader, table, where, values)
    transferring = ("disbursement_key", "disbursement_user", "disbursement_api_key")
    _whole(reader, where, values, ("subscription_key", "api_key"), transferring)


def checkout(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """A payment product at Africa's Talking."""
    _address(reader, table, where, values)
    _whole(reader, where, values, ("api_key",), ())


def _address(reader: Reader, table: Mapping[str, Any], where: str, values: Mapping[str, Any]) -> None:
    """Credentials travel in the clear to this machine only, and never stand in the address."""
    try:
        url = urlsplit(values.get("base_url", "https://"))
        host, has_password = url.hostname, "@" in url.netloc
        _ = url.port
    except ValueError:
        reader.fault(f"{where}.base_url", table.get("base_url"), "an address", "one that cannot be read (not shown)")
        return
    if url.scheme == "http" and host not in _THIS_MACHINE:
        reader.fault(f"{where}.base_url", table.get("base_url"), "https, but for this machine", "http")
    if has_password:
        reader.fault(f"{where}.base_url", table.get("base_url"), "an address without a user", "one with (not shown)")


def _whole(
    reader: Reader, where: str, values: Mapping[str, Any], needed: Iterable[str], together: Iterable[str]
) -> None:
    """Credentials that must be there, and others of which all are or none."""
    for name in needed:
        if name in values and not values[name]:
            reader.fault(f"{where}.{name}", None, f"{name}_file or {name}_env", "none")
    given = {name: bool(values.get(name)) for name in together}
    for name, is_there in given.items():
        if any(given.values()) and not is_there:
            others = " and ".join(other for other in given if given[other])
            reader.fault(f"{where}.{name}", None, f"a value, since there is {others}", "none")
