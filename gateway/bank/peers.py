"""Banks of the settings as peers: their profiles, keys, certificates and links. Shell: reads files.

Each bank's keys live in a module of its own, so that no handle of one can name a key of another.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable
from datetime import datetime

from channels.iso8583 import shipped
from channels.iso8583.bank import BankObserver, BankPeer
from channels.iso8583.errors import Fault, KeyRefused
from channels.iso8583.flows import Bank, BankDesk
from channels.iso8583.keymodule import Use, WrappedKey
from channels.iso8583.link import BankLinks, LinkObserver, LinkSettings
from channels.iso8583.mac import Algorithm
from channels.iso8583.profile import Profile
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys, checked, combined, wrapped_key_of
from config.settings import BankSettings, Settings
from gateway.world import World
from ledger.banks import KeyRow


def profile_of(bank: BankSettings) -> Profile:
    """A bank's profile. Raises ProfileFaults, or OSError for a file that cannot be read."""
    return shipped.profile(bank.profile)


def policy_of(bank: BankSettings, profile: Profile) -> str:
    """What is done about reversals of a sale whose token nobody has seen, by the bank's word."""
    return bank.reversals or profile.reversal.policy


def keys_of(bank: BankSettings, profile: Profile, stored: Iterable[KeyRow], now: datetime) -> SoftwareKeys | None:
    """The bank's keys: those of the settings, then those that it has sent since. Raises KeyRefused.

    None where the dialect has no MAC and no key change.
    """
    network, rules = profile.network, profile.mac
    if rules is None and not (network.key and bank.zmk):
        return None
    cipher = "aes" if rules is not None and rules.algorithm is Algorithm.AES_CMAC else "des"
    records = [KeyRecord(network.zmk_handle, Use.ZMK, _zmk(cipher, bank.zmk.reveal()))] if bank.zmk else []
    keys = SoftwareKeys(records)
    handle = rules.key if rules is not None else network.key_handle
    if bank.zak:
        keys.install(handle, Use.ZAK, wrapped_key_of(bank.zak.reveal()), network.zmk_handle)
        keys.activate(handle, now, 0)
    grace_s = profile.timing.old_key_grace_s
    for row in stored:
        keys.install(row.handle, Use.ZAK, WrappedKey(row.scheme, row.cryptogram, row.kcv), row.zmk)
        if row.state == "ACTIVE":
            keys.activate(row.handle, row.settled_at or row.received_at, grace_s)
    if rules is not None and not keys.generations(handle, now):
        raise KeyRefused(Fault.KEY_MISSING, f"key {handle}", "zak, or a key that the bank has sent, expected")
    return keys


def _zmk(cipher: str, text: str) -> Secret:
    try:
        parts = [bytes.fromhex(part) for part in text.split()]
    except ValueError:
        raise KeyRefused(Fault.KEY_FORMAT, "zmk", "hexadecimal digits expected, got another character") from None
    return combined(cipher, parts) if len(parts) > 1 else checked(cipher, parts[0] if parts else b"")


def tls_of(bank: BankSettings) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """How links are secured that come in, and that we dial; None for plain ones. Raises OSError for a file."""
    if not bank.tls:
        return None, None
    inward = outward = None
    if bank.listen:
        inward = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=bank.tls_ca_file or None)
        inward.verify_mode = ssl.CERT_REQUIRED if bank.tls_ca_file else ssl.CERT_NONE
        inward.minimum_version = ssl.TLSVersion.TLSv1_2
        inward.load_cert_chain(bank.tls_certificate_file, bank.tls_key_file)
    if bank.dial:
        outward = ssl.create_default_context(cafile=bank.tls_ca_file or None)
        outward.minimum_version = ssl.TLSVersion.TLSv1_2
        if bank.tls_certificate_file:
            outward.load_cert_chain(bank.tls_certificate_file, bank.tls_key_file)
    return inward, outward


def link_settings(bank: BankSettings) -> LinkSettings:
    """A bank's links as the channel wants them. Raises OSError for a certificate that cannot be read."""
    inward, outward = tls_of(bank)
    return LinkSettings(
        name=bank.name,
        listen=_endpoint(bank.listen) if bank.listen else None,
        dial=tuple(_endpoint(one) for one in bank.dial.split()),
        networks=tuple(ipaddress.ip_network(one) for one in re.split(r"[\s,]+", bank.addresses.strip()) if one),
        tls_listen=inward,
        tls_dial=outward,
        tls_server_name=bank.tls_server_name,
        peer_names=frozenset(bank.tls_peer_names.split()),
        links_max=bank.links_max,
        half_open_max=bank.half_open_max,
        unanswered_max=bank.unanswered_max,
        connect_s=bank.connect_timeout_s,
        sign_on_s=bank.sign_on_timeout_s,
        write_s=bank.write_timeout_s,
        own={32: bank.institution} if bank.institution else {},
    )


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def bank_of(bank: BankSettings, profile: Profile, settings: Settings) -> Bank:
    """What reading a bank's requests needs."""
    timing = profile.timing
    within_s = bank.answer_within_s or timing.bank_timeout_s * timing.decide_by_percent / 100
    return Bank(bank.name, profile, bank.currency, settings.utility.minor_digits, within_s)


def peer_of(
    bank: BankSettings,
    settings: Settings,
    desk: BankDesk,
    keys: SoftwareKeys | None,
    world: World,
    local: Callable[[datetime], datetime],
    *,
    observer: BankObserver,
    links: LinkObserver,
    leased: bool,
) -> BankPeer:
    """A bank with its links, which are opened later."""
    profile = profile_of(bank)
    rules = link_settings(bank)
    return BankPeer(
        bank_of(bank, profile, settings),
        desk,
        lambda peer: BankLinks(
            profile,
            rules,
            peer,
            keys=keys,
            now=world.now,
            local=local,
            random=world.chance,
            observer=links,
            leased=leased,
        ),
        now=world.now,
        local=local,
        observer=observer,
    )
