"""Where a bank's links are, their limits, and whom they tell what they measure. Data."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Where a bank's links are, and their limits. Times in seconds.

    `listen` and `dial` are (host, port). `networks`: whence links are accepted; none for any. `peer_names`: names of
    certificates of which the peer must have one; none for any that the authorities vouch for.
    """

    name: str
    listen: tuple[str, int] | None = None
    dial: tuple[tuple[str, int], ...] = ()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    tls_listen: ssl.SSLContext | None = None
    tls_dial: ssl.SSLContext | None = None
    tls_server_name: str = ""
    peer_names: frozenset[str] = frozenset()
    links_max: int = 4
    half_open_max: int = 8
    unanswered_max: int = 1_000
    connect_s: float = 10.0
    sign_on_s: float = 30.0
    write_s: float = 10.0
    own: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class LinkObserver:
    """Whom links tell what they measure: bank and link by their names, and what it was."""

    refused: Callable[[str, str], None] = lambda bank, fault: None
    closed: Callable[[str, str], None] = lambda bank, why: None


@dataclass(frozen=True, slots=True)
class LinkStands:
    """How a link stands now."""

    link: str
    is_up: bool
    is_signed_on: bool
    unanswered: int


def is_in(address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    """Whether an address lies in one of these networks; an IPv4 address in IPv6 form is the IPv4 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
