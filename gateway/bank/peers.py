"""Banks of the settings as peers: their profiles, keys, certificates and links. Shell: reads files.

Each bank's keys live in a module of its own, so that no handle of one can name a key of another.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from channels.iso8583 import shipped
from channels.iso8583.bank import BankChannel, BankObserver, BankPeer
from channels.iso8583.errors import Fault, KeyRefused
from channels.iso8583.flows import Bank, BankDesk
from channels.iso8583.keymodule import Use, WrappedKey
from channels.iso8583.link import BankLinks
from channels.iso8583.link_settings import LinkObserver, LinkSettings
from channels.iso8583.mac import Algorithm
from channels.iso8583.profile import Profile
from channels.iso8583.softwarekeys import KeyRecord, Secret, SoftwareKeys, checked, combined, wrapped_key_of
from config.money import BankSettings
from config.settings import Settings
from gateway.world import World
from ledger.banks import KeyRow


def profile_of(bank: BankSettings) -> Profile:
    """A bank's profile. Raises ProfileFaults, or OSError for a file that cannot be read."""
    return shipped.profile(bank.profile)


def profiles_of(settings: Settings) -> dict[str, Profile]:
    """The profile of every bank, with what the settings say instead."""
    found: dict[str, Profile] = {}
    for bank in settings.bank:
        profile = profile_of(bank)
        policy = bank.reversals or profile.reversal.policy
        found[bank.name] = replace(profile, reversal=replace(profile.reversal, policy=policy))
    return found


def keys_of(
    bank: BankSettings, profile: Profile, stored: Sequence[KeyRow], now: datetime, *, are_all: bool = True
) -> SoftwareKeys | None:
    """The bank's keys: those of the settings, then those that it has sent since. Raises KeyRefused.

    With `are_all` there must be one for MACs, if the dialect has them. None for a dialect without MAC and key change.
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
    if are_all and rules is not None and not bank.zak and not stored:
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
    for name in (bank.tls_certificate_file, bank.tls_key_file, bank.tls_ca_file):
        if name:
            Path(name).read_bytes()  # its own words name the file, those of the library do not
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
    profile: Profile,
    desk: BankDesk,
    keys: SoftwareKeys | None,
    world: World,
    local: Callable[[datetime], datetime],
    observer: BankObserver,
    links: LinkObserver,
) -> BankPeer:
    """A bank with its links, which are opened later."""
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
            leased=True,
        ),
        now=world.now,
        local=local,
        observer=observer,
    )


def channel_of(
    settings: Settings,
    stored: Mapping[str, Sequence[KeyRow]],
    desk: BankDesk,
    world: World,
    local: Callable[[datetime], datetime],
    observer: BankObserver,
    links: LinkObserver,
) -> BankChannel:
    """The channel of all banks of the settings; `stored` are the keys that they have sent.

    Links that we dial are opened when they are permitted to. Raises what is wrong with a profile, key or certificate.
    """
    profiles = profiles_of(settings)
    made = [
        peer_of(
            bank,
            settings,
            profiles[bank.name],
            desk,
            keys_of(bank, profiles[bank.name], stored.get(bank.name, ()), world.now()),
            world,
            local,
            observer,
            links,
        )
        for bank in settings.bank
    ]
    return BankChannel(made)
