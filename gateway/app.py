"""The composition root: from settings to a running gateway, all its parts and tasks in one place."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from channels import wording
from channels.africastalking import callbacks as text_callbacks
from channels.africastalking.link import Account
from channels.commands import Command, Vocabulary, parse
from channels.contract import Channel, Reply
from channels.http.server import CallbackServer, Limits
from channels.iso8583.bank import BankChannel, BankObserver
from channels.iso8583.link_settings import LinkObserver as BankLinkObserver
from channels.smpp.codes import Verdict
from channels.smpp.link import Incoming, Link, LinkObserver
from channels.smpp.messageid import IdForms
from channels.smpp.settings import LinkSettings
from channels.smpp.text import Alphabet
from channels.sms import PartBooks, SmsChannel
from channels.ussd import callbacks as ussd_callbacks
from channels.ussd.links import UssdLinks
from config import languages
from config.languages import Catalogue
from config.settings import AfricasTalkingSettings, Settings, SmppSettings
from gateway import modules
from gateway.bank import peers
from gateway.bank.desk import StoredBanks
from gateway.bank.steering import BankSteering
from gateway.delivery import Delivery
from gateway.desk import VendingDesk
from gateway.health import HealthServer
from gateway.keeper import Keeper
from gateway.keywatch import KeyWatch, books_now
from gateway.links import Leased, LinkKeeper, link_grace_s
from gateway.metrics import LinkState, Metrics
from gateway.payments.desk import PaymentDesk
from gateway.payments.registry import SOURCES, made
from gateway.payments.surroundings import Factory
from gateway.settlement.operatortexts import OperatorTexts
from gateway.smsbooks import Receipts, StoredParts
from gateway.ussd.desk import UssdDesk
from gateway.vend import Shop
from gateway.world import World
from ledger import banks, records
from ledger.banks import KeyRow
from ledger.pins import fingerprint_key
from ledger.store import Observer, Store, open_store
from sts.modules.contract import SecurityModule
from sts.modules.pool import ModulePool

log = logging.getLogger(__name__)

_LOOK_S = 1.0  # how often links are looked at for the metrics


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
        queued_s=queued_s(settings, link.response_timeout_s),
        registered_delivery=1 if link.receipts else 0,
        rate_per_s=link.rate_per_s,
        validity_s=link.validity_s,
        prefixes=tuple(link.prefixes.split()),
        message_ids=IdForms(link.message_ids),
        receipts_by_text=link.receipts_by_text,
        country_code=link.country_code,
        verdicts=verdicts(link.statuses),
    )


def queued_s(settings: Settings, answer_s: float) -> float:
    """A reply may wait for a turn on three links, one after the other, and for one answer, within its lease."""
    return 0.3 * (settings.delivery.lease_s - answer_s)


def verdicts(statuses: str) -> dict[int, Verdict]:
    """What "0x45=pause 0x401=never" says of command_status values."""
    pairs = (entry.partition("=") for entry in statuses.split())
    return {int(status, 16): Verdict(verdict) for status, _, verdict in pairs}


def second_routes(links: Sequence[SmppSettings], accounts: Sequence[AfricasTalkingSettings] = ()) -> dict[str, str]:
    """The way to try after each way: the next one to another message centre, else the next one; none for one."""
    ways = [(link.name, link.centre or link.name) for link in links if link.mode != "receiver"]
    ways += [(account.name, account.name) for account in accounts]
    found: dict[str, str] = {}
    for at, (name, centre) in enumerate(ways):
        others = [*ways[at + 1 :], *ways[:at]]
        elsewhere = [other for other in others if other[1] != centre]
        for other, _ in (elsewhere or others)[:1]:
            found[name] = other
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
    divert: Callable[[Incoming], Coroutine[Any, Any, None] | None],
    texts: OperatorTexts,
    accounts: Sequence[Account] = (),
) -> SmsChannel:
    """The SMS channel over all links and accounts of the settings; its links are bound when they are permitted to."""
    vocabulary = Vocabulary.of(catalogue.keywords(), catalogue.language_words())
    utility = settings.utility

    def read(text: str) -> Command:
        return parse(
            text,
            minor_digits=utility.minor_digits,
            currency=utility.currency,
            vocabulary=vocabulary,
            takes_pins=bool(settings.pins.key),
        )

    def render(reply: Reply) -> str:
        return wording.render(reply.message, reply.language, catalogue)

    return SmsChannel(
        [
            Link(link_settings(link, settings), random=world.chance, tls=_tls(link), observer=observer, leased=True)
            for link in settings.smpp
        ],
        parse=texts.reading(read),
        render=render,
        keep_whole=lambda reply: wording.keep_whole(reply.message),
        now=world.now,
        new_reference=lambda: str(world.new_id()),
        parts=parts,
        on_receipt=receipts.take,
        divert=divert,
        part_timeout_s=settings.links.part_timeout_s,
        accounts=accounts,
        fingerprint_key=fingerprint_key(settings.pins.key.reveal()),
    )


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.callbacks.tls_certificate_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.callbacks.tls_certificate_file, settings.callbacks.tls_key_file)
    return context


class Gateway:
    """A running gateway. Made by `running`."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        store: Store,
        module: SecurityModule,
        metrics: Metrics,
        keeper: Keeper | None = None,
        bank_keys: Mapping[str, Sequence[KeyRow]] | None = None,
        kinds: Mapping[str, Factory] = SOURCES,
    ) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.module = module
        self._keys = KeyWatch(store, module, keeper, world, metrics)
        gaps: set[tuple[str, str]] = set()

        def on_gap(gap: languages.Gap) -> None:
            if (gap.language, gap.key) not in gaps:  # said once each, not with every message
                gaps.add((gap.language, gap.key))
                log.error("a text has a gap", extra={"language": gap.language, "text": gap.key})

        catalogue = languages.load(settings.utility.default_language, on_gap=on_gap)
        for fault in catalogue.faults:
            log.error("a language file has a fault: %s", fault)
        node, links = settings.gateway.node, settings.links
        others = second_routes(settings.smpp, settings.africastalking)
        self.receipts = Receipts(store, links, others, world, metrics)
        observer = LinkObserver(response=metrics.response, refused=metrics.bind_refused)
        parts = StoredParts(store, world, links.part_timeout_s, settings.pins.key.reveal())
        self.accounts = [
            Account(
                one,
                random=world.chance,
                queued_s=queued_s(settings, one.connect_timeout_s + one.answer_timeout_s),
                observer=observer,
            )
            for one in settings.africastalking
        ]
        self._texts = OperatorTexts(
            settings.operator_text,
            minor_digits=settings.utility.minor_digits,
            currency=settings.utility.currency,
            write=store.transact,
            world=world,
            metrics=metrics,
        )
        self.sms = sms_channel(
            settings, world, catalogue, parts, self.receipts, observer, self._ussd_step, self._texts, self.accounts
        )
        self.channels: dict[str, Channel] = {self.sms.name: self.sms}
        binds_max = {link.name: link.binds_max for link in settings.smpp}
        self._world = world
        self.delivery = Delivery(
            store,
            self.channels,
            settings.delivery,
            node,
            world,
            metrics,
            is_watched=links.second_route_after_s > 0 and bool(others),
        )
        shop = Shop.of(settings, world, module)
        self.desk = VendingDesk(shop, store, self.delivery, metrics)
        self.bank_desk, self.banks = self._banks(shop, catalogue, bank_keys or {})
        dialled = [link for peer in self.banks.peers.values() for link in peer.links.dialled]
        leased: list[Leased] = [*self.sms.links, *dialled]
        one_each = {link.name: 1 for link in dialled}  # by one node at a time
        self.keeper = LinkKeeper(store, leased, {**binds_max, **one_each}, links, node, world, self.accounts)
        self.steering = BankSteering(store, self.banks.peers, node, world, look_every_s=links.lease_s / 6)
        services = {service.name: service for service in settings.ussd}
        self.ussd = UssdDesk(shop, store, self.desk, catalogue, services, metrics)
        language = settings.utility.default_language
        self._ussd_links = UssdLinks(
            settings.ussd,
            self.ussd,
            now=world.now,
            help_text=lambda: catalogue.text("ussd_over", {}, language),
            on_refused=metrics.callback_refused,
            on_lost=metrics.ussd_screen_lost,
        )
        self.payments = PaymentDesk(shop, store, self.desk, made(settings, world.now, kinds), metrics)
        self.callbacks = self._callback_server(catalogue)
        self._callbacks_serve = asyncio.Event()
        metrics.watch_queue(lambda: store.waiting)
        self.health = HealthServer(
            settings.http,
            metrics,
            {"database": self._database_answers, "links": self._is_bound, "keys": self._has_keys},
            {"sts_tables": module.status().table_set, "node": settings.gateway.node},
        )

    def _banks(
        self, shop: Shop, catalogue: Catalogue, stored: Mapping[str, Sequence[KeyRow]]
    ) -> tuple[StoredBanks, BankChannel]:
        """The desk for banks, and their channel."""
        metrics = self.metrics
        desk = StoredBanks(shop, self.store, self.desk, catalogue, peers.profiles_of(self.settings), metrics)
        channel = peers.channel_of(
            self.settings,
            stored,
            desk,
            self._world,
            shop.local,
            BankObserver(metrics.bank_answered, metrics.bank_unanswered, metrics.fault, metrics.bank_late),
            BankLinkObserver(metrics.bank_refused, metrics.bank_closed),
        )
        return desk, channel

    def _ussd_step(self, incoming: Incoming) -> Coroutine[Any, Any, None] | None:
        """The work of a message that is a USSD step."""
        return self._ussd_links.take(incoming)

    def _callback_server(self, catalogue: Catalogue) -> CallbackServer | None:
        """The server for providers' callbacks, if any channel wants them."""
        settings, language = self.settings.callbacks, self.settings.utility.default_language
        routes = ussd_callbacks.routes(
            self.settings.ussd,
            self.ussd,
            now=self._world.now,
            help_text=lambda: catalogue.text("ussd_over", {}, language),
            on_refused=self.metrics.callback_refused,
        )
        routes += text_callbacks.routes(
            self.settings.africastalking, self.sms, self.receipts, on_refused=self.metrics.callback_refused
        )
        routes += self.payments.routes()
        if not routes:
            return None
        return CallbackServer(
            settings.host,
            settings.port,
            routes,
            Limits(settings.body_octets_max, settings.read_timeout_s, settings.at_once_max),
            settings.trusted_proxies,
            _server_tls(self.settings),
            self._callback_refused,
        )

    def _callback_refused(self, route: str, why: str) -> None:
        self.metrics.callback_refused(route, why)
        if route.startswith("payment:"):
            self.payments.refused(route, why)

    async def run(self) -> None:
        """Serve until cancelled; then say goodbye to the peers and finish what is in flight."""
        await self.health.start()
        try:
            if taken_up := await self.desk.resume(at_start=True):
                log.info("purchases taken up again", extra={"purchases": taken_up})
            if self.banks.peers:
                await self.bank_desk.have_accounts()
                await self.steering.look()
                await self.banks.start()
            if self.callbacks is not None:
                await self.callbacks.start()
                self._callbacks_serve.set()
            async with asyncio.TaskGroup() as tasks:
                for channel in self.channels.values():
                    tasks.create_task(channel.run(self._texts.before(self.desk)), name=channel.name)
                tasks.create_task(self.banks.run(), name="banks")
                tasks.create_task(self.keeper.run(), name="leases")
                tasks.create_task(self.steering.run(), name="banks' links")
                tasks.create_task(self.receipts.run(), name="receipts")
                tasks.create_task(self.delivery.run(), name="delivery")
                tasks.create_task(self.payments.run(), name="payments")
                tasks.create_task(self._keep_resuming(), name="resume")
                tasks.create_task(self._watch(), name="watch")
                tasks.create_task(self.ussd.sweep(), name="ussd sessions")
                tasks.create_task(self._keys.follow(), name="keys")
                tasks.create_task(self._keys.warn(), name="modules")
        finally:
            if self.callbacks is not None:
                await self.callbacks.stop()
            await self.keeper.close()
            await self.payments.close()
            await self.delivery.close()
            await self.desk.close()
            await self.health.stop()

    async def callback_port(self) -> int:
        """The port where callbacks come in, once they do; of interest where the settings say 0."""
        assert self.callbacks is not None, "no channel wants callbacks"
        await self._callbacks_serve.wait()
        return self.callbacks.port

    async def _keep_resuming(self) -> None:
        while True:
            await asyncio.sleep(self.settings.purchase.resume_every_s)
            try:
                await self.desk.resume(at_start=False)
            except Exception:  # the database is away: the next round tries again
                log.exception("waiting purchases could not be looked for")

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
            for peer in self.banks.peers.values():
                open_links = {link.link: link.is_signed_on for link in peer.links.stands()}
                self.metrics.bank_stands(peer.name, open_links, peer.waiting, peer.oldest_unanswered_s())
            for account in self.accounts:
                self.metrics.link_stands(
                    LinkState(
                        link=account.name,
                        is_up=account.is_up(),
                        is_bound=not account.is_resting,
                        in_flight=account.in_flight,
                        window=account.settings.connections_max,
                        queued=account.queued,
                        sent_per_s=account.sent_per_s(),
                        allowed_per_s=account.allowed_per_s(),
                        counts=asdict(account.counts),
                    )
                )
            self._keys.look()
            if rounds % 10 == 0:
                try:
                    owed, oldest_s = await self.delivery.owed()
                    self.metrics.outbox(owed, oldest_s)
                    by_peer = await self.delivery.oldest_by_peer() if owed else {}
                    names = [link.name for link in self.sms.links] + [account.name for account in self.accounts]
                    for name in names:
                        self.metrics.oldest_owed(name, by_peer.get(name, 0.0))
                except Exception:  # the database is away, which other gauges and the health page say
                    log.exception("the outbox could not be counted")
            rounds += 1
            await asyncio.sleep(_LOOK_S)

    async def _database_answers(self) -> bool:
        await self.store.read(lambda connection: connection.exec_driver_sql("SELECT 1"))
        return True

    async def _is_bound(self) -> bool:
        """Some way is open; or none is needed here: others hold every link, for which this node stands by."""
        banks_wait = any(peer.links.settings.listen is not None for peer in self.banks.peers.values())
        banks_are_up = any(peer.links.is_signed_on() for peer in self.banks.peers.values())
        has_ways = bool(self.keeper.links or self.accounts)
        stands_by = bool(self.keeper.links) and self.keeper.stands_by
        return self.sms.is_up() or banks_are_up or banks_wait or not has_ways or stands_by

    async def _has_keys(self) -> bool:
        return bool(self.module.status().keys)


@asynccontextmanager
async def opened(
    settings: Settings,
    world: World,
    metrics: Metrics,
    module: SecurityModule | None = None,
    kinds: Mapping[str, Factory] = SOURCES,
) -> AsyncIterator[Gateway]:
    """A gateway with its database open and its keys loaded, not yet serving."""
    modules.load_tables(settings.sts)  # what cannot be used is said before anything is opened
    observer = Observer(batch=metrics.batch)
    store = await open_store(
        settings.database.url_with_password(),
        batch_max=settings.database.batch_max,
        queue_max=settings.database.queue_max,
        statement_timeout_s=max(1, int(settings.database.statement_timeout_s)),
        observer=observer,
    )
    keys, keeper = module, None
    try:
        if keys is None:
            books = await store.read(books_now)
            keeper = Keeper(settings, books)
            observer.keys = keeper.allow
            keys = keeper.module
        status = keys.status()
        if not status.real_meters_accept_ea07:
            log.warning(
                "EA07 tokens are made with the table set %s, printed in the standard as an example: real EA07 meters "
                "refuse them; EA11 tokens are not concerned",
                status.table_set,
            )
        stored = {bank.name: await store.read(partial(banks.keys, bank=bank.name)) for bank in settings.bank}
        accounts = [f"{kind}:{one.name}" for one in settings.payment for kind in ("clearing", "suspense")]
        if accounts:
            currency = settings.utility.currency
            await store.transact(lambda connection: records.ensure_accounts(connection, accounts, currency))
        yield Gateway(settings, world, store, keys, metrics, keeper, stored, kinds)
    finally:
        await store.close()
        if isinstance(keys, ModulePool):
            await keys.close()
