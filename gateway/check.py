"""`prepaid check`: tries everything that the gateway will need, and names every fault at once. Changes nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

from channels.africastalking.link import standing
from channels.smpp.text import parts_needed
from config import languages
from config.money import BankSettings
from config.settings import AfricasTalkingSettings, Pkcs11Settings, PrismSettings, Settings, SmppSettings
from gateway import custody
from gateway.bank import peers
from gateway.keyplaces import module_names, place_of
from gateway.logs import mask
from gateway.modules import load_module, load_software, load_tables
from gateway.payments.registry import made
from gateway.settlement import mapping
from gateway.settlement.operatortexts import BadPatterns, load_patterns
from gateway.world import RealWorld
from ledger import trouble, vendingkeys
from ledger.keyrows import State
from ledger.store import is_sqlite, open_store, sqlite_path
from sts.knownanswer import known_answers
from sts.modules.pool import ModulePool
from sts.tables import SAMPLE

_CONNECT_S = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part."""

    part: str
    is_well: bool
    said: str


async def check(settings: Settings) -> list[Finding]:
    """Look at database, keys, modules, EA07 tables, languages, every link and the HTTP port; one finding each."""
    parts: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("database", lambda: _database(settings)),
        ("vending keys", lambda: _keys(settings)),
        *((f"module {module.name}", lambda module=module: _module(settings, pkcs11=(module,)))
          for module in settings.pkcs11),
        *((f"module {module.name}", lambda module=module: _module(settings, prism=(module,)))
          for module in settings.prism),
        ("custody", lambda: _custody(settings)),
        ("token making", lambda: _tables(settings)),
        ("languages", lambda: _languages(settings)),
        *((f"link {link.name}", lambda link=link: _link(link)) for link in settings.smpp),
        *((f"account {account.name}", lambda account=account: _account(account))
          for account in settings.africastalking),
        *((f"authorities of link {link.name}", lambda link=link: _authorities(link))
          for link in settings.smpp if link.tls_ca_file),
        *((f"bank {bank.name}", lambda bank=bank: _bank(bank)) for bank in settings.bank),
        *((f"source {source.name}", lambda source=source: _source(settings, source.name))
          for source in settings.payment),
        ("health and metrics", lambda: _http(settings)),
    ]  # fmt: skip
    parts.append(("ways for SMS", lambda: _ways(settings)))
    if settings.settlement or settings.operator_text:
        parts.append(("settlement", lambda: _settlement(settings)))
    return list(await asyncio.gather(*(_found(part, look) for part, look in parts)))


async def _found(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await look())
    except Exception as error:  # whatever is wrong with a part is what this command is here to say
        said: object = error
        if part == "database":
            said = trouble.of(error) or error
        elif isinstance(error, OSError) and error.filename is not None:
            said = f"{error.filename}: {error.strerror}"
        return Finding(part, False, mask(str(said)) or type(error).__name__)


async def _database(settings: Settings) -> str:
    url = settings.database.url_with_password()
    if is_sqlite(url):
        _look_at_file(Path(sqlite_path(url)))
    store = await open_store(url)
    await store.close()
    return f"{settings.database.url} has this program's version"


def _look_at_file(path: Path) -> None:
    """Leave alone what is not ours: to open a file that is missing or empty would make it a database."""
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        raise ValueError(f"{path} {'is empty' if path.exists() else 'does not exist'}: run `prepaid migrate` first")
    with path.open("rb") as file:
        header = file.read(20)
    # The versions of its format for writing and reading: 2 is write-ahead logging, in which ours are from the start.
    if not header.startswith(b"SQLite format 3\0") or header[18:] != b"\2\2":
        raise ValueError(f"{path} is not a database of this program")


async def _keys(settings: Settings) -> str:
    if not settings.sts.keystore:
        if settings.pkcs11 or settings.prism:
            return "no key store: the modules below have the keys"
        raise ValueError("no key store and no module, so every sale will be refused: see [sts] keystore")
    keys = load_software(settings.sts, SAMPLE).status().keys
    if not keys:
        raise ValueError("no vending key is loaded, so every sale will be refused: see `prepaid keys add`")
    groups = sorted({key.supply_group for key in keys})
    return f"{len(keys)} for supply groups {', '.join(groups)}"


async def _bank(bank: BankSettings) -> str:
    """The profile, the keys and the certificates of a bank; and whether what is dialled answers."""
    profile = peers.profile_of(bank)
    keys = peers.keys_of(bank, profile, (), datetime.fromtimestamp(0, UTC), are_all=False)
    links = peers.link_settings(bank)
    said = [f"profile {profile.name}"]
    if keys is not None:
        said.append("keys " + (", ".join(f"{key.handle} {key.kcv}" for key in keys.status()) or "none"))
    if links.listen is not None:
        said.append(f"listens on {bank.listen}" + (" with TLS" if links.tls_listen else ""))
    for host, port in links.dial:
        async with asyncio.timeout(_CONNECT_S):
            server_name = (links.tls_server_name or host) if links.tls_dial else None
            _, writer = await asyncio.open_connection(host, port, ssl=links.tls_dial, server_hostname=server_name)
        writer.close()
        said.append(f"{host}:{port} answers")
    return ", ".join(said)


class _Tried(Protocol):
    async def try_out(self) -> str: ...


async def _source(settings: Settings, name: str) -> str:
    """What a source of money does when it is asked for no money."""
    only = replace(settings, payment=tuple(one for one in settings.payment if one.name == name))
    [(_, source)] = made(only, RealWorld().now)
    try:
        return await cast(_Tried, source).try_out() if hasattr(source, "try_out") else "nobody outside is asked"
    finally:
        await source.close()


async def _custody(settings: Settings) -> str:
    """What the books say of the keys that modules and key store hold."""
    url = settings.database.url_with_password()
    try:
        if is_sqlite(url):
            _look_at_file(Path(sqlite_path(url)))
        store = await open_store(url)
    except Exception as error:  # the database's own finding says what is wrong with it
        return f"not looked at, because of the database ({type(error).__name__})"
    try:
        rows = await store.read(vendingkeys.report)
    finally:
        await store.close()
    used, left_out = 0, list[str]()
    for name in module_names(settings):
        try:
            held = await asyncio.to_thread(place_of(settings, name).held)
        except Exception:  # the module's own finding says what is wrong with it
            left_out.append(f"module {name} was not looked at")
            continue
        left_out += custody.left_out(held, rows, name)
        used += sum(custody.is_in_use(status, rows, name) for status in held)
    if not used:
        raise ValueError("; ".join(["no key is in use, so every sale will be refused", *left_out]))
    waiting = {f"key {row.id}:" for row in rows if row.state is State.LOADED}
    if wrong := [sentence for sentence in left_out if not any(sentence.startswith(key) for key in waiting)]:
        raise ValueError("; ".join(wrong))
    return "; ".join([f"{used} keys in use", *left_out])


async def _module(
    settings: Settings, *, pkcs11: tuple[Pkcs11Settings, ...] = (), prism: tuple[PrismSettings, ...] = ()
) -> str:
    """One module by itself, so that a fault of another does not hide it."""
    alone = replace(settings.sts, keystore="", ea07_tables="")
    module = load_module(replace(settings, sts=alone, pkcs11=pkcs11, prism=prism))
    try:
        groups = sorted({key.supply_group for key in module.status().keys})
    finally:
        if isinstance(module, ModulePool):
            await module.close()
    if not groups:
        raise ValueError("it has no vending key")
    return f"keys for supply groups {', '.join(groups)}"


async def _tables(settings: Settings) -> str:
    answers = known_answers(load_tables(settings.sts))
    if not answers.program_is_sound:
        raise ValueError("the known-answer test fails: this installation must not make tokens")
    if answers.operational_ea07:
        return f"known-answer test passed; EA07 tables {answers.tables} are the operational ones"
    return f"known-answer test passed; EA07 tables {answers.tables}: real EA07 meters refuse these tokens"


async def _languages(settings: Settings) -> str:
    catalogue = languages.load(settings.utility.default_language)
    if catalogue.faults:
        raise ValueError("; ".join(catalogue.faults))
    said = ", ".join(sorted(catalogue.languages))
    name = settings.utility.sms_name or settings.utility.name
    long = [
        f"{key} in {language}"
        for language in sorted(catalogue.languages)
        for key in ("help", "opted_out", "opted_in")
        if parts_needed(catalogue.text(key, {"utility": name, "short_code": "000000"}, language)) > 1
    ]
    if long:
        said += f"; longer than one short message with this name: {', '.join(long)}: see [utility] sms_name"
    return said


async def _settlement(settings: Settings) -> str:
    """The mapping files of statements, and the patterns of operators' texts."""
    try:
        for one in settings.settlement:
            mapping.load(one.mapping)
        for place in settings.operator_text:
            load_patterns(Path(place.patterns_file))
    except (mapping.BadMapping, BadPatterns) as bad:
        raise ValueError(str(bad)) from None
    return f"{len(settings.settlement)} sources with statements, {len(settings.operator_text)} with texts"


async def _link(link: SmppSettings) -> str:
    """Connect and go away: a bind might throw out a gateway that is running."""
    try:
        tls = _context(link) if link.tls else None
    except OSError:
        tls = None  # said of the authorities; here, whether anybody listens
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(link.host, link.port, ssl=tls)
    except TimeoutError:
        raise ValueError(f"{link.host}:{link.port} does not answer within {_CONNECT_S} s") from None
    writer.transport.abort()
    return f"{link.host}:{link.port} takes {'TLS ' if tls else ''}connections (not bound)"


def _context(link: SmppSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=link.tls_ca_file or None)


async def _authorities(link: SmppSettings) -> str:
    try:
        context = _context(link)
    except ssl.SSLError as error:
        raise ValueError(f"{link.tls_ca_file}: a PEM file of certificates expected: {error.reason}") from None
    except OSError as error:
        raise ValueError(f"{link.tls_ca_file}: {error.strerror}") from None
    return f"{link.tls_ca_file}: {len(context.get_ca_certs())}"


async def _http(settings: Settings) -> str:
    """Take the port and give it back."""
    http = settings.http
    try:
        server = await asyncio.start_server(lambda reader, writer: None, http.host, http.port)
    except OSError as error:
        running = ": a gateway that is running has it, or another program"
        why = running if "in use" in str(error) else f": {error.strerror or error}"
        raise ValueError(f"{http.host}:{http.port} cannot be had{why}") from None
    server.close()
    await server.wait_closed()
    return f"{http.host}:{http.port} is free"


async def _account(account: AfricasTalkingSettings) -> str:
    """Ask what the account's balance is; nothing is sent."""
    found = await asyncio.to_thread(standing, account, asyncio.get_running_loop().time)
    if not found.is_well:
        raise ValueError(found.said)
    takes = "" if account.path_secret or account.addresses else "; without path_secret it takes no messages"
    return f"{found.said}{takes}"


async def _ways(settings: Settings) -> str:
    """Whether replies have a way out, those to orders by USSD too, whose tokens come by SMS."""
    out = [link.name for link in settings.smpp if link.mode != "receiver"]
    out += [account.name for account in settings.africastalking]
    if out:
        return f"replies go out by {', '.join(out)}"
    missing = "no [[smpp]] link that sends and no [[africastalking]] account"
    if settings.ussd:
        raise ValueError(f"{missing}: customers of USSD see a token once, on the last screen, and never by SMS")
    if settings.smpp:
        raise ValueError(f"{missing}: no reply reaches anybody")
    others = ["counters (`prepaid sell`)", *(f"bank {bank.name}" for bank in settings.bank)]
    return f"{missing}; what sells: {', '.join(others)}"
