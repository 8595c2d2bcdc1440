"""What must fit together in the settings of channels and of callbacks. Pure.

Each check is told a section's values, or sections that are sound by themselves, and gives its faults to the reader.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from config.faults import Reader
from config.kinds import Secret
from config.settings import AfricasTalkingSettings, DeliverySettings, SmppSettings, UssdSettings


def smpp(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """A link: receipts and TLS."""
    if values.get("receipts_by_text") and values.get("receipts") is False:
        given = table.get("receipts_by_text")
        reader.fault(f"{where}.receipts_by_text", given, "false, since receipts is false", "true")
    if values.get("tls_ca_file") and values.get("tls") is False:
        reader.fault(f"{where}.tls", table.get("tls"), "true, since tls_ca_file is set", "false")


def africastalking(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """An account: its key, and how callbacks prove whose they are."""
    if not any(way in table for way in ("api_key", "api_key_env", "api_key_file")):
        reader.fault(f"{where}.api_key", None, "api_key_file or api_key_env", "none of them")
    host = re.sub(r"(:\d+)?$", "", values.get("base_url", "").removeprefix("http://"))
    if values.get("base_url", "").startswith("http://") and host not in ("127.0.0.1", "localhost", "[::1]"):
        # The key travels in a header.
        reader.fault(f"{where}.base_url", table.get("base_url"), "https, or http on this machine", "http elsewhere")
    networks(reader, table, where, values, "addresses")
    path_secret(reader, where, values.get("path_secret", Secret("")).reveal())


def way_names(reader: Reader, links: tuple[SmppSettings, ...], accounts: tuple[AfricasTalkingSettings, ...]) -> None:
    """Requests and replies know links and accounts by their names, and ids of messages by their centres'."""
    taken = {name: f"smpp[{link.name}]" for link in links for name in (link.name, link.centre)}
    for account in accounts:
        if account.name in taken:
            expected = f"a name unlike those of {taken[account.name]}"
            reader.fault(f"africastalking[{account.name}].name", account.name, expected, repr(account.name))


def callbacks(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """The server of callbacks: its certificate, and proxies it trusts."""
    networks(reader, table, where, values, "trusted_proxies")
    certificate, key = values.get("tls_certificate_file"), values.get("tls_key_file")
    if bool(certificate) != bool(key):
        missing = "tls_key_file" if certificate else "tls_certificate_file"
        reader.fault(f"{where}.{missing}", None, "a path, since the other file of the pair is set", "none")


def ussd(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """A service: how its callbacks prove whose they are, or where its messages have a session."""
    if values.get("kind") == "smpp":
        _ussd_by_smpp(reader, table, where, values)
        return
    if values.get("links"):
        reader.fault(f"{where}.links", table.get("links"), 'none, since kind is not "smpp"', repr(values["links"]))
    networks(reader, table, where, values, "addresses")
    secrets = [values.get("path_secret", Secret("")).reveal(), values.get("header_secret", Secret("")).reveal()]
    if not any(secrets) and not values.get("addresses"):
        expected = "path_secret, header_secret or addresses: a callback must prove whose it is"
        reader.fault(where, None, expected, "none of them")
    path_secret(reader, where, secrets[0])


def _ussd_by_smpp(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    if values.get("links") == "":
        reader.fault(f"{where}.links", table.get("links"), 'names of [[smpp]] links, since kind is "smpp"', "none")
    session, mark = values.get("session_from"), values.get("mark_from")
    if mark == "sequence" and session in ("session_id", "user_message_reference"):
        expected = f'"message_id" or another place, since session_from "{session}" has no sequence'
        reader.fault(f"{where}.mark_from", table.get("mark_from"), expected, '"sequence"')
    if mark == session == "user_message_reference":
        expected = "another place than session_from: a session's id is the same in all its steps"
        reader.fault(f"{where}.mark_from", table.get("mark_from"), expected, repr(mark))
    for first, second in (("begin", "answer"), ("begin", "abort"), ("answer", "abort"), ("ask", "end")):
        first, second = f"{first}_operation", f"{second}_operation"
        if first in values and values[first] == values.get(second):
            reader.fault(f"{where}.{second}", table.get(second), f"another value than {first}", str(values[second]))


def ussd_links(reader: Reader, services: tuple[UssdSettings, ...], links: tuple[SmppSettings, ...]) -> None:
    """A message with ussd_service_op goes to the one service of its link."""
    found, taken = {link.name: link for link in links}, dict[str, str]()
    for service in services:
        for name in service.links.split():
            where = f"ussd[{service.name}].links"
            if name not in found:
                reader.fault(where, service.links, "names of [[smpp]] links", repr(name))
            elif name in taken:
                reader.fault(where, service.links, f"no link of ussd[{taken[name]}]", repr(name))
            elif found[name].mode in ("transmitter", "receiver"):
                expected = "links that take and send: mode transceiver or pair"
                reader.fault(where, service.links, expected, f"{name!r}, a {found[name].mode}")
            elif service.mark_from == "message_id" and not found[name].reference_tlv:
                expected = f'reference_tlv of smpp[{name}], since mark_from is "message_id"'
                reader.fault(where, service.links, expected, "0")
            taken[name] = service.name


def payment(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """A source of money: how its callbacks prove whose they are."""
    networks(reader, table, where, values, "addresses")
    path_secret(reader, where, values.get("path_secret", Secret("")).reveal())


def lease(
    reader: Reader,
    document: Mapping[str, Any],
    delivery: DeliverySettings | None,
    links: tuple[SmppSettings, ...],
    accounts: tuple[AfricasTalkingSettings, ...],
) -> None:
    """A reply must stay ours until its peer has answered or is given up."""
    times = [(link.response_timeout_s, f"response_timeout_s of smpp[{link.name}]") for link in links]
    times += [
        (account.connect_timeout_s + account.answer_timeout_s, f"both time-outs of africastalking[{account.name}]")
        for account in accounts
    ]
    if delivery is None or not times:
        return
    slowest_s, whose = max(times)
    if delivery.lease_s <= slowest_s:
        given = document.get("delivery", {}).get("lease_s")
        expected = f"more than {whose} ({slowest_s})"
        reader.fault("delivery.lease_s", given, expected, str(delivery.lease_s))


def networks(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any], name: str) -> None:
    """Addresses and networks, separated by blanks."""
    for part in re.split(r"[\s,]+", values.get(name, "").strip()):
        try:
            if part:
                ipaddress.ip_network(part)
        except ValueError:
            expected = 'addresses and networks such as "196.201.214.0/24 10.0.0.5"'
            reader.fault(f"{where}.{name}", table.get(name), expected, repr(part))


def path_secret(reader: Reader, where: str, secret: str) -> None:
    """What stands in an address and is not to be guessed."""
    if secret and not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", secret):
        expected = "16 to 200 letters, digits, dashes and underscores"
        reader.fault(f"{where}.path_secret", None, expected, "another text (not shown)")
