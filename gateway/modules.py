"""The security modules of the settings, joined into one that the shop asks. Shell: opens files and libraries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from config.settings import Pkcs11Settings, Settings, StsSettings
from config.settings import PrismSettings as PrismSection
from gateway.unlock import records_of
from sts.errors import Fault, StsError
from sts.modules.contract import SecurityModule
from sts.modules.pool import Limits, Member, ModulePool
from sts.modules.prism.client import PrismModule
from sts.modules.prism.settings import PrismKey, PrismSettings, TidBy
from sts.modules.software import SoftwareModule
from sts.tables import SAMPLE, TableSet, TableSetError, table_set_from


class ModuleSettingsWrong(StsError):
    """The settings of a module cannot be used; the sentence says what is wrong."""

    def __init__(self, sentence: str) -> None:
        super().__init__(Fault.FORMAT, sentence)


def load_tables(settings: StsSettings) -> TableSet:
    """The operator's EA07 tables, or the printed sample. Refuses TABLE_SET for what is none."""
    if not settings.ea07_tables:
        return SAMPLE
    path = Path(settings.ea07_tables)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise TableSetError(Fault.TABLE_SET, "table file: UTF-8 text expected") from None
    return table_set_from(text, path.stem)


def load_software(settings: StsSettings, tables: TableSet) -> SoftwareModule:
    """The software module with all keys of the sealed key store, whatever the books say; none without a key store."""
    return SoftwareModule(
        records_of(settings), tables=tables, name=settings.module, cache_size=settings.decoder_key_cache
    )


def load_members(settings: Settings, tables: TableSet) -> list[Member]:
    """The security modules that the settings name beside the key store, in their order."""
    return [
        *(_pkcs11(section, tables, settings.sts) for section in settings.pkcs11),
        *(_prism(section, settings.sts) for section in settings.prism),
    ]


def software_member(software: SecurityModule) -> Member:
    """The key store's module as the last of several."""
    return Member(software, Limits(at_once_max=8, waiting_max=1000), repeats_exactly=True)


def load_module(settings: Settings) -> SecurityModule:
    """Everything that the modules and the key store hold, whatever the books say of it: to look at, not to sell with.

    `gateway/keeper.py` has what sells. A software module alone answers inside the transaction that asks it.
    """
    tables = load_tables(settings.sts)
    software = load_software(settings.sts, tables)
    members = load_members(settings, tables)
    if not members:
        return software
    if software.status().keys:
        members.append(software_member(software))
    return ModulePool(members)


def _limits(section: Pkcs11Settings | PrismSection, at_once_max: int) -> Limits:
    return Limits(
        at_once_max=at_once_max,
        waiting_max=section.waiting_max,
        rate_per_s=section.rate_per_s or None,
        rest_first_s=section.rest_first_s,
        rest_max_s=section.rest_max_s,
    )


def without_pkcs11(section: Pkcs11Settings) -> ModuleSettingsWrong:
    """What is said where the extra is missing."""
    return ModuleSettingsWrong(
        f"[[pkcs11]] {section.name}: the package python-pkcs11 is not installed: install prepaid-gateway[pkcs11]"
    )


def _pkcs11(section: Pkcs11Settings, tables: TableSet, sts: StsSettings) -> Member:
    try:
        from sts.modules.pkcs11 import Pin, Pkcs11Module
    except ImportError:
        raise without_pkcs11(section) from None
    module = Pkcs11Module(
        section.library,
        section.token_label,
        Pin(section.pin.reveal()),
        tables=tables,
        name=section.name,
        cache_size=sts.decoder_key_cache,
        answers_at_once=section.answers_at_once,
        timeout_s=section.timeout_s,
        waiting_max=section.waiting_max,
    )
    return Member(module, _limits(section, 1), repeats_exactly=True)


def _prism(section: PrismSection, sts: StsSettings) -> Member:
    return Member(prism_module(section, sts), _limits(section, section.connections_max), section.repeats_exactly)


def prism_module(section: PrismSection, sts: StsSettings) -> PrismModule:
    """The client of a module of the Prism kind; not connected yet. Reads certificate files."""
    settings = PrismSettings(
        name=section.name,
        host=section.host,
        port=section.port,
        realm=section.realm,
        username=section.username,
        password=section.password.reveal(),
        keys=tuple(
            replace(prism_key(text), counts_from_minutes_east=sts.base_date_offset_minutes)
            for text in section.keys.split()
        ),
        ca_file=Path(section.ca_file) if section.ca_file else None,
        server_name=section.server_name,
        client_certificate_file=Path(section.client_certificate_file) if section.client_certificate_file else None,
        client_key_file=Path(section.client_key_file) if section.client_key_file else None,
        plain_on_loopback=section.plain_on_loopback,
        connections_max=section.connections_max,
        waiting_max=section.waiting_max,
        connect_timeout_s=section.connect_timeout_s,
        answer_timeout_s=section.answer_timeout_s,
        doubt_s=section.doubt_s,
        tid_by=TidBy(section.tid_by),
    )
    return PrismModule(settings)


def prism_key(text: str) -> PrismKey:
    """A key as the settings name it: supply group/revision/key type/DKGA/base date/KEN, and /check value."""
    parts = text.split("/")
    numbers = parts[1:6]
    if len(parts) not in (6, 7) or not all(part.isascii() and part.isdigit() for part in numbers):
        raise ModuleSettingsWrong(f"[[prism]] keys: SGC/KRN/KT/DKGA/BASE/KEN expected, got {text!r}")
    revision, key_type, dkga, base_date, expiry = (int(part) for part in numbers)
    check_value = parts[6] if len(parts) == 7 else ""
    return PrismKey(parts[0], revision, key_type, dkga, base_date, expiry, check_value)
