"""The composition root: from settings to a running gateway, all its parts and tasks in one place."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from zoneinfo import ZoneInfo

from channels import wording
from channels.commands import Command, Vocabulary, parse
from channels.contract import Channel, Reply
from channels.smpp.codes import Verdict
from channels.smpp.link import Link, LinkObserver
from channels.smpp.messageid import IdForms
from channels.smpp.settings import LinkSettings
from channels.smpp.text import Alphabet
from channels.sms import PartBooks, SmsChannel
from config import languages
from config.languages import Catalogue
from config.settings import Settings, SmppSettings
from gateway import custody, modules
from gateway.delivery import Delivery
from gateway.desk import VendingDesk
from gateway.health import HealthServer
from gateway.links import LinkKeeper, link_grace_s
from gateway.metrics import LinkState, Metrics
from gateway.smsbooks import Receipts, StoredParts
from gateway.vend import Shop
from gateway.world import World
from ledger import vendingkeys
from ledger.store import Observer, Store, open_store
from sts.modules.contract import SecurityModule
from sts.modules.pool import ModulePool

log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_LOOK_S = 1.0  # how often links are looked at for the metrics


def zone(settings: Settings) -> ZoneInfo:
    """The utility's own time."""
    return ZoneInfo(settings.utility.timezone)


def link_settings(link: SmppSettings, settings: Settings) -> LinkSettings:
    """A link's settings as the SMPP package wants them."""
    return LinkSettings(
        name=link.name,
        centre=link.centre,
        host=link.host,
        port=link.port,
        system_id=link.system_id,
        password=link.password.reveal(),
        system_type=link.system_type,
        mode=link.mode,
        source_addr=link.source_addr,
        source_addr_ton=link.source_ton,
        source_addr_npi=link.source_npi,
        dest_addr_ton=link.dest_ton,
        dest_addr_npi=link.dest_npi,
        window=link.window,
        enquire_link_s=link.enquire_link_s,
        response_timeout_s=link.response_timeout_s,
        bind_timeout_s=link.bind_timeout_s,
        reconnect_min_s=link.reconnect_min_s,
        reconnect_max_s=link.reconnect_max_s,
        throttle_pause_s=link.throttle_pause_s,
        throttle_retries=link.throttle_retries,
        stop_grace_s=link_grace_s(settings.links),
        default_alphabet=Alphabet(link.default_alphabet),
        reference_tlv=link.reference_tlv or None,
        max_unanswered=link.max_unanswered,
        # A reply may wait for a turn on three links, one after the other, and for one answer, within its lease.
        queued_s=0.3 * (settings.delivery.lease_s - link.response_timeout_s),
        registered_delivery=1 if link.receipts else 0,
        rate_per_s=link.rate_per_s,
        validity_s=link.validity_s,
        prefixes=tuple(link.prefixes.split()),
        message_ids=IdForms(link.message_ids),
        receipts_by_text=link.receipts_by_text,
        verdicts=verdicts(link.statuses),
    )


def verdicts(statuses: str) -> dict[int, Verdict]:
    """What "0x45=pause 0x401=never" says of command_status values."""
    pairs = (entry.partition("=") for entry in statuses.split())
    return {int(status, 16): Verdict(verdict) for status, _, verdict in pairs}


def second_routes(links: Sequence[SmppSettings]) -> dict[str, str]:
    """The link to try after each link: the next one to another message centre, else the next one; none for one."""
    found: dict[str, str] = {}
    for at, link in enumerate(links):
        others = [*links[at + 1 :], *links[:at]]
        elsewhere = [other for other in others if (other.centre or other.name) != (link.centre or link.name)]
        for other in (elsewhere or others)[:1]:
            found[link.name] = other.name
    return found


def _tls(link: SmppSettings) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=link.tls_ca_file or None) if link.tls else None


def sms_channel(
    settings: Settings,
    world: World,
    catalogue: Catalogue,
    parts: PartBooks,
    receipts: Receipts,
    observer: LinkObserver,
) -> SmsChannel:
    """The SMS channel over all SMPP links of the settings; its links are bound when they are permitted to."""
    vocabulary = Vocabulary.of(catalogue.keywords(), catalogue.language_words())
    utility = settings.utility

    def read(text: str) -> Command:
        return parse(text, minor_digits=utility.minor_digits, currency=utility.currency, vocabulary=vocabulary)

    def render(reply: Reply) -> str:
        return wording.render(reply.message, reply.language, catalogue)

    return SmsChannel(
        [
            Link(link_settings(link, settings), random=world.chance, tls=_tls(link), observer=observer, leased=True)
            for link in settings.smpp
        ],
        parse=read,
        render=render,
        keep_whole=lambda reply: wording.keep_whole(reply.message),
        now=world.now,
        new_reference=lambda: str(world.new_id()),
        parts=parts,
        on_receipt=receipts.take,
        part_timeout_s=settings.links.part_timeout_s,
    )


class Gateway:
    """A running gateway. Made by `running`."""

    def __init__(
        self, settings: Settings, world: World, store: Store, module: SecurityModule, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.module = module
        gaps: set[tuple[str, str]] = set()

        def on_gap(gap: languages.Gap) -> None:
            if (gap.language, gap.key) not in gaps:  # said once each, not with every message
                gaps.add((gap.language, gap.key))
                log.error("a text has a gap", extra={"language": gap.language, "text": gap.key})

        catalogue = languages.load(settings.utility.default_language, on_gap=on_gap)
        for fault in catalogue.faults:
            log.error("a language file has a fault: %s", fault)
        node, links = settings.gateway.node, settings.links
        self.receipts = Receipts(store, links, second_routes(settings.smpp), world, metrics)
        observer = LinkObserver(response=metrics.response, refused=metrics.bind_refused)
        parts = StoredParts(store, world, links.part_timeout_s)
        self.sms = sms_channel(settings, world, catalogue, parts, self.receipts, observer)
        self.channels: dict[str, Channel] = {self.sms.name: self.sms}
        binds_max = {link.name: link.binds_max for link in settings.smpp}
        self.keeper = LinkKeeper(store, self.sms.links, binds_max, links, node, world)
        self._world = world
        self.delivery = Delivery(
            store,
            self.channels,
            settings.delivery,
            node,
            world,
            metrics,
            is_watched=links.second_route_after_s > 0 and len(settings.smpp) > 1,
        )
        self.desk = VendingDesk(Shop.of(settings, world, module), store, self.delivery, metrics)
        metrics.watch_queue(lambda: store.waiting)
        self.health = HealthServer(
            settings.http,
            metrics,
            {"database": self._database_answers, "links": self._is_bound, "keys": self._has_keys},
            {"sts_tables": module.status().table_set, "node": settings.gateway.node},
        )

    async def run(self) -> None:
        """Serve until cancelled; then say goodbye to the peers and finish what is in flight."""
        await self.health.start()
        try:
            if taken_up := await self.desk.resume(at_start=True):
                log.info("purchases taken up again", extra={"purchases": taken_up})
            async with asyncio.TaskGroup() as tasks:
                for channel in self.channels.values():
                    tasks.create_task(channel.run(self.desk), name=channel.name)
                tasks.create_task(self.keeper.run(), name="leases")
                tasks.create_task(self.receipts.run(), name="receipts")
                tasks.create_task(self.delivery.run(), name="delivery")
                tasks.create_task(self._keep_resuming(), name="resume")
                tasks.create_task(self._watch(), name="watch")
                tasks.create_task(self._warn_of_keys(), name="keys")
        finally:
            await self.keeper.close()
            await self.delivery.close()
            await self.desk.close()
            await self.health.stop()

    async def _keep_resuming(self) -> None:
        while True:
            await asyncio.sleep(self.settings.purchase.resume_every_s)
            try:
                await self.desk.resume(at_start=False)
            except Exception:  # the database is away: the next round tries again
                log.exception("waiting purchases could not be looked for")

    async def _warn_of_keys(self) -> None:
        """Once a day: which vending keys end within 90, 30 or 7 days, in the log and in the metrics."""
        while True:
            try:
                rows = await self.store.read(vendingkeys.report)
                found = custody.warnings(rows, self._world.now())
                self.metrics.keys_ending({days: sum(one.days <= days for one in found) for days in custody.WARN_DAYS})
                for warning in found:
                    log.warning("%s", custody.sentence_of(warning))
            except Exception:  # the database is away: tomorrow, or at the next start
                log.exception("the vending keys' ends could not be looked up")
            await asyncio.sleep(_DAY_S)

    async def _watch(self) -> None:
        """Keep the gauges of what nobody announces."""
        rounds = 0
        while True:
            for link in self.sms.links:
                self.metrics.link_stands(
                    LinkState(
                        link=link.name,
                        is_up=link.is_up(),
                        is_bound=link.is_bound(),
                        in_flight=link.in_flight,
                        window=link.settings.window,
                        queued=link.queued,
                        sent_per_s=link.sent_per_s(),
                        allowed_per_s=link.allowed_per_s(),
                        counts=asdict(link.counts),
                    )
                )
            if rounds % 10 == 0:
                try:
                    owed, oldest_s = await self.delivery.owed()
                    self.metrics.outbox(owed, oldest_s)
                    by_peer = await self.delivery.oldest_by_peer() if owed else {}
                    for link in self.sms.links:
                        self.metrics.oldest_owed(link.name, by_peer.get(link.name, 0.0))
                except Exception:  # the database is away, which other gauges and the health page say
                    log.exception("the outbox could not be counted")
            rounds += 1
            await asyncio.sleep(_LOOK_S)

    async def _database_answers(self) -> bool:
        await self.store.read(lambda connection: connection.exec_driver_sql("SELECT 1"))
        return True

    async def _is_bound(self) -> bool:
        """Bound by some link; or every link is held by other nodes, for which this one stands by."""
        return self.sms.is_up() or (bool(self.sms.links) and self.keeper.stands_by)

    async def _has_keys(self) -> bool:
        return bool(self.module.status().keys)


@asynccontextmanager
async def opened(
    settings: Settings, world: World, metrics: Metrics, module: SecurityModule | None = None
) -> AsyncIterator[Gateway]:
    """A gateway with its database open and its keys loaded, not yet serving."""
    modules.load_tables(settings.sts)  # what cannot be used is said before anything is opened
    store = await open_store(
        settings.database.url_with_password(),
        batch_max=settings.database.batch_max,
        queue_max=settings.database.queue_max,
        statement_timeout_s=max(1, int(settings.database.statement_timeout_s)),
        observer=Observer(batch=metrics.batch),
    )
    keys = module
    try:
        if keys is None:
            rows = await store.read(vendingkeys.report)
            keys = modules.load_module(settings, custody.chooser(rows, log.warning))
        status = keys.status()
        if not status.real_meters_accept_ea07:
            log.warning(
                "EA07 tokens are made with the table set %s, printed in the standard as an example: real EA07 meters "
                "refuse them; EA11 tokens are not concerned",
                status.table_set,
            )
        yield Gateway(settings, world, store, keys, metrics)
    finally:
        await store.close()
        if isinstance(keys, ModulePool):
            await keys.close()
