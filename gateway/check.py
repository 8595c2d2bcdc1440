"""`prepaid check`: tries everything that the gateway will need, and names every fault at once. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from config import languages
from config.settings import Settings, SmppSettings
from gateway.modules import load_module, load_tables
from ledger.store import open_store
from sts.knownanswer import known_answers

_CONNECT_S = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part."""

    part: str
    is_well: bool
    said: str


async def check(settings: Settings) -> list[Finding]:
    """Look at database, keys, EA07 tables, languages and every link; one finding each."""
    parts: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("database", lambda: _database(settings)),
        ("vending keys", lambda: _keys(settings)),
        ("token making", lambda: _tables(settings)),
        ("languages", lambda: _languages(settings)),
        *((f"link {link.name}", lambda link=link: _link(link)) for link in settings.smpp),
    ]
    if not settings.smpp:
        parts.append(("links", _no_links))
    return list(await asyncio.gather(*(_found(part, look) for part, look in parts)))


async def _found(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await look())
    except Exception as error:  # whatever is wrong with a part is what this command is here to say
        return Finding(part, False, str(error) or type(error).__name__)


async def _database(settings: Settings) -> str:
    store = await open_store(settings.database.url_with_password())
    await store.close()
    return f"{settings.database.url} has this program's version"


async def _keys(settings: Settings) -> str:
    keys = load_module(settings).status().keys
    if not keys:
        raise ValueError("no vending key is loaded, so every sale will be refused: see `prepaid keys add`")
    groups = sorted({key.supply_group for key in keys})
    return f"{len(keys)} for supply groups {', '.join(groups)}"


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
    return ", ".join(sorted(catalogue.languages))


async def _link(link: SmppSettings) -> str:
    async with asyncio.timeout(_CONNECT_S):
        _, writer = await asyncio.open_connection(link.host, link.port)
    writer.close()
    return f"{link.host}:{link.port} takes connections"


async def _no_links() -> str:
    raise ValueError("no [[smpp]] link: nobody can buy")
