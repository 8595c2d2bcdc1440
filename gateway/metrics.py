"""Counters, gauges and histograms for Prometheus, in a registry of their own. No I/O; `gateway/health.py` serves them.

One `Metrics` is made by the composition root and handed to whoever counts; nothing is global, so that tests and several
gateways in one process do not count into each other. Values of labels are bounded: enums, or the first few names
seen and then "other", because every further value would cost memory here and in the collector for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from channels.contract import Outcome
from gateway.purchase import State
from ledger.reasons import Reason
from sts.modules.pool import MemberHealth

# Channels, commands and links are a handful each; more than this is a mistake or somebody playing.
NAMES_MAX: Final = 40
OTHER: Final = "other"
NO_REASON: Final = "OK"

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DELIVERY_SECONDS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)


class _Names:
    """The first `NAMES_MAX` different names as they are, each further one as "other"."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._seen = set(known)

    def bounded(self, name: str) -> str:
        if name in self._seen:
            return name
        if len(self._seen) >= NAMES_MAX or len(name) > 64:
            return OTHER
        self._seen.add(name)
        return name


@dataclass(frozen=True, slots=True)
class LinkState:
    """How a link to a message centre stands; `counts` are by what was done."""

    link: str
    is_up: bool
    is_bound: bool
    in_flight: int
    window: int
    queued: int
    sent_per_s: float
    allowed_per_s: float
    counts: Mapping[str, int]


class Metrics:
    """Everything that is counted. A method per thing that happens, in the words of the trade."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._channels, self._commands, self._links, self._statuses = _Names(), _Names(), _Names(), _Names()
        self._requests = self._counter("requests", "Requests stored, repeats not counted.", "channel", "command")
        self._replays = self._counter(
            "replays", "Requests that had come before and got their stored answer.", "channel"
        )
        self._not_stored = self._counter(
            "not_stored", "Requests that could not be stored and were not acknowledged.", "channel"
        )
        self._callbacks_refused = self._counter(
            "callbacks_refused", "Providers' callbacks that were not taken, by route and why.", "route", "why"
        )
        self._ussd_lost = self._counter(
            "ussd_screens_lost", "USSD screens over SMPP that the message centre did not take in time.", "service"
        )
        self._payments_said = self._counter(
            "payment_events", "What sources said of payments, by how it was heard.", "source", "how", "said"
        )
        self._payments_came_to = self._counter(
            "payment_outcomes", "What came of the words of sources.", "source", "outcome"
        )
        self._payments_waiting = self._gauge("payments_waiting", "Payments that are waited for.", "source")
        self._payments_age = self._gauge(
            "payments_waiting_age_seconds", "Age of the oldest payment that is waited for; 0 if none is.", "source"
        )
        self._outcomes = self._counter(
            "outcomes", "Requests answered, by reason; OK where nothing was refused.", "channel", "reason"
        )
        self._states = self._counter("purchase_states", "Purchases that entered a state.", "state")
        self._replies = self._counter(
            "replies", "Attempts to send a reply, by what the peer said.", "channel", "outcome"
        )
        self._masked = self._counter(
            "log_lines_masked",
            "Log lines in which something that looks like a secret had to be masked: each is a fault of ours.",
        )
        self._faults = self._counter(
            "faults", "Broken invariants and tasks that ended in an exception: each is a fault of ours.", "part"
        )
        self._owed_age = self._gauge(
            "outbox_owed_age_seconds", "Age of the oldest reply that is still owed; 0 if none is."
        )
        self._owed = self._gauge("outbox_owed", "Replies that are still owed.")
        self._queue = self._gauge("queue_length", "Requests that wait for the writer of the books.")
        self._link_up = self._gauge("link_up", "1 if a link to a peer is up, else 0.", "link")
        self._link_bound = self._gauge("link_bound", "1 if a link is bound by this node, else 0.", "link")
        self._link_in_flight = self._gauge("link_in_flight", "Messages that wait for their response.", "link")
        self._link_window = self._gauge("link_window", "Messages that may wait for their response.", "link")
        self._link_queued = self._gauge("link_queued", "Messages that wait for the window or their turn.", "link")
        self._link_rate = self._gauge("link_sent_per_second", "Messages sent a second, lately.", "link")
        self._link_allowed = self._gauge(
            "link_allowed_per_second", "Messages that may be sent a second now; +Inf where nothing limits them.", "link"
        )
        self._link_owed_age = self._gauge(
            "link_owed_age_seconds", "Age of the oldest reply owed to customers of this link.", "link"
        )
        self._link_counts = self._gauge(
            "link_messages", "What a link has done since the start, by what it was.", "link", "what"
        )
        self._link_responses = self._counter(
            "link_responses", "Responses to messages sent, by command_status; none where none came.", "link", "status"
        )
        self._binds_refused = self._counter("link_binds_refused", "Binds refused, by command_status.", "link", "status")
        self._bank_answers = self._counter(
            "bank_answers",
            "Requests of banks that were answered, by what was asked and the code.",
            "bank",
            "asked",
            "code",
        )
        self._bank_late = self._counter(
            "bank_answers_late", "Answers written after the bank's time-out, by what was asked.", "bank", "asked"
        )
        self._bank_unanswered = self._counter(
            "bank_unanswered",
            "Requests of banks that were not answered, for want of an outcome or a link.",
            "bank",
            "asked",
        )
        self._bank_refused = self._counter(
            "bank_messages_refused", "Messages of banks that were refused at once, by what was wrong.", "bank", "fault"
        )
        self._bank_closed = self._counter("bank_links_closed", "Links of banks that ended, by why.", "bank", "why")
        self._bank_links = self._gauge("bank_links", "Links of a bank that are open, or signed on.", "bank", "state")
        self._bank_waiting = self._gauge("bank_requests_waiting", "Requests of a bank that wait for answers.", "bank")
        self._bank_oldest = self._gauge(
            "bank_oldest_unanswered_seconds", "For how long a bank's oldest request waits; 0 if none does.", "bank"
        )
        self._bank_link_up = self._gauge(
            "bank_link_up", "1 if a bank's link is signed on, 0 if just open.", "bank", "link"
        )
        self._bank_seconds = self._histogram(
            "bank_answer_seconds", "Time from a bank's request to its written answer.", _SECONDS, "bank"
        )
        self._receipts = self._counter("receipts", "Delivery receipts, by their state.", "link", "state")
        self._keys_ending = self._gauge(
            "vending_keys_ending",
            "Vending keys, and modules' authorisations, that end within so many days, or are over.",
            "days",
        )
        self._keys_left_out = self._gauge(
            "vending_keys_left_out", "Vending keys on which modules and books disagree, so that they are not used."
        )
        self._modules = _Names()
        self._module_asked = self._counter("module_asked", "Requests that a security module was asked.", "module")
        self._module_gauges = {
            name: self._gauge(f"module_{name}", about, "module")
            for name, about in (
                ("at_work", "Requests that a security module is at."),
                ("waiting", "Requests that wait for their turn at a security module."),
                ("failures", "Failures of a security module in a row."),
                ("rests_seconds", "How long a security module still rests after a failure; 0 if it does not."),
                ("in_doubt", "Requests that a security module was asked and did not answer."),
                ("rate_limit", "Requests a second that the settings allow a security module; 0 if there is no limit."),
                ("answers", "1 if a security module could be asked for its status, else 0."),
                ("tokens_per_second", "Tokens a second that a security module says it can make."),
                ("clock_drift_seconds", "How far a security module says its clock is out."),
                ("alerts", "Alerts that a security module has."),
                ("vends_until_seconds", "When a security module's authorisation to vend ends, in seconds since 1970."),
            )
        }
        self._asked_of: dict[str, int] = {}
        self._bank_link_names: dict[str, set[str]] = {}
        self._batch_size = self._histogram("batch_size", "Requests written in one transaction.", _BATCH_SIZES)
        self._batch_seconds = self._histogram(
            "batch_seconds", "Time of one transaction, from its begin to its commit.", _SECONDS
        )
        self._response_seconds = self._histogram(
            "link_response_seconds", "Time from a message sent to its response.", _SECONDS, "link"
        )
        self._delivery_seconds = self._histogram(
            "link_delivery_seconds", "Time from a message taken to its receipt.", _DELIVERY_SECONDS, "link"
        )
        self._token_seconds = self._histogram("token_seconds", "Time to make one token.", _SECONDS)
        self._answer_seconds = self._histogram(
            "answer_seconds", "Time from a request's arrival to its stored outcome.", _SECONDS
        )

    # --- what happens -----------------------------------------------------------------------------------------

    def request(self, channel: str, command: str) -> None:
        """A new request was stored."""
        self._requests.labels(self._channels.bounded(channel), self._commands.bounded(command)).inc()

    def replay(self, channel: str) -> None:
        """A request came again and got its stored answer."""
        self._replays.labels(self._channels.bounded(channel)).inc()

    def not_stored(self, channel: str) -> None:
        """A request could not be stored; its peer will send it again."""
        self._not_stored.labels(self._channels.bounded(channel)).inc()

    def callback_refused(self, route: str, why: str) -> None:
        """A provider's callback was not taken: `route` is its name, not its path; `why` a stable word."""
        self._callbacks_refused.labels(self._channels.bounded(route), why).inc()

    def payment_said(self, source: str, how: str, said: str) -> None:
        """A source said this of a payment: `how` is ASKED, CALLBACK or POLL; all three of closed lists."""
        self._payments_said.labels(source, how, said).inc()

    def payment_came_to(self, source: str, outcome: str) -> None:
        """What came of a source's word: a name of gateway/payments/intake.py."""
        self._payments_came_to.labels(source, outcome).inc()

    def payments_waiting(self, source: str, count: int, oldest_s: float) -> None:
        """How many payments of a source are waited for, and for how long the oldest."""
        self._payments_waiting.labels(source).set(count)
        self._payments_age.labels(source).set(oldest_s)

    def ussd_screen_lost(self, service: str) -> None:
        """A screen was dropped; `service` is a name of the settings."""
        self._ussd_lost.labels(service).inc()

    def outcome(self, channel: str, reason: Reason | None) -> None:
        """A request was answered: refused for a reason, or not refused (None)."""
        said = reason.value if reason is not None else NO_REASON
        self._outcomes.labels(self._channels.bounded(channel), said).inc()

    def purchase_entered(self, state: State) -> None:
        """A purchase entered a state."""
        self._states.labels(state.value).inc()

    def reply(self, channel: str, outcome: Outcome) -> None:
        """An attempt to send a reply ended."""
        self._replies.labels(self._channels.bounded(channel), outcome.value).inc()

    def batch(self, size: int, seconds: float) -> None:
        """The writer committed one transaction for `size` requests."""
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)

    def token_made(self, seconds: float) -> None:
        """A security module made a token."""
        self._token_seconds.observe(seconds)

    def answered(self, seconds: float) -> None:
        """A request's outcome was stored, so long after it came in."""
        self._answer_seconds.observe(seconds)

    def log_line_masked(self) -> None:
        """A secret was about to be logged: hand this to `gateway.logs.set_up`."""
        self._masked.inc()

    def response(self, link: str, status: str, seconds: float) -> None:
        """A message centre answered a message, or did not in time (status "none")."""
        name = self._links.bounded(link)
        self._link_responses.labels(name, self._statuses.bounded(status)).inc()
        self._response_seconds.labels(name).observe(seconds)

    def bind_refused(self, link: str, status: str) -> None:
        """A message centre refused a bind."""
        self._binds_refused.labels(self._links.bounded(link), self._statuses.bounded(status)).inc()

    def receipt(self, link: str, state: str) -> None:
        """A delivery receipt came."""
        self._receipts.labels(self._links.bounded(link), self._statuses.bounded(state)).inc()

    def delivered(self, link: str, seconds: float) -> None:
        """A message reached its phone, so long after the message centre took it."""
        self._delivery_seconds.labels(self._links.bounded(link)).observe(seconds)

    def bank_answered(self, bank: str, asked: str, code: str, seconds: float) -> None:
        """A bank's request was answered with this code."""
        name = self._links.bounded(bank)
        self._bank_answers.labels(name, asked, self._statuses.bounded(code)).inc()
        self._bank_seconds.labels(name).observe(seconds)

    def bank_late(self, bank: str, asked: str) -> None:
        """A bank's request was answered when the bank had ceased to wait."""
        self._bank_late.labels(self._links.bounded(bank), asked).inc()

    def bank_unanswered(self, bank: str, asked: str) -> None:
        """A bank's request was not answered; the bank will ask again."""
        self._bank_unanswered.labels(self._links.bounded(bank), asked).inc()

    def bank_refused(self, bank: str, fault: str) -> None:
        """A bank's message was refused before anybody was asked."""
        self._bank_refused.labels(self._links.bounded(bank), fault).inc()

    def bank_closed(self, bank: str, why: str) -> None:
        """A bank's link ended."""
        self._bank_closed.labels(self._links.bounded(bank), why).inc()

    def bank_stands(self, bank: str, links: Mapping[str, bool], waiting: int, oldest_s: float) -> None:
        """How a bank's links stand now; `links` by their names, True if signed on."""
        name = self._links.bounded(bank)
        self._bank_links.labels(name, "open").set(len(links))
        self._bank_links.labels(name, "signed_on").set(sum(links.values()))
        self._bank_waiting.labels(name).set(waiting)
        self._bank_oldest.labels(name).set(oldest_s)
        seen = self._bank_link_names.setdefault(name, set())
        for gone in seen - links.keys():
            self._bank_link_up.remove(name, gone)
        self._bank_link_names[name] = set(links)
        for link, is_signed_on in links.items():
            self._bank_link_up.labels(name, link).set(1 if is_signed_on else 0)

    def fault(self, part: str) -> None:
        """A part of the program met a bug of ours."""
        self._faults.labels(self._links.bounded(part)).inc()

    # --- how things stand -------------------------------------------------------------------------------------

    def outbox(self, owed: int, oldest_s: float) -> None:
        """So many replies are owed, the oldest for so many seconds."""
        self._owed.set(owed)
        self._owed_age.set(max(oldest_s, 0.0) if owed else 0.0)

    def keys_ending(self, by_days: Mapping[int, int]) -> None:
        """So many vending keys end within so many days."""
        for days, count in by_days.items():
            self._keys_ending.labels(str(days)).set(count)

    def keys_left_out(self, count: int) -> None:
        """So many vending keys are not used, because modules and books do not agree on them."""
        self._keys_left_out.set(count)

    def module_is(self, health: MemberHealth) -> None:
        """How a security module of a pool does."""
        name = self._modules.bounded(health.name)
        before = self._asked_of.get(name, 0)
        self._module_asked.labels(name).inc(max(0, health.asked - before))
        self._asked_of[name] = health.asked
        for gauge, value in (
            ("at_work", health.at_work),
            ("waiting", health.waiting),
            ("failures", health.failures),
            ("rests_seconds", health.rests_for_s),
            ("in_doubt", health.in_doubt),
            ("rate_limit", health.rate_per_s or 0),
        ):
            self._module_gauges[gauge].labels(name).set(value)

    def module_says(
        self,
        module: str,
        *,
        answers: bool,
        tokens_per_s: float | None = None,
        clock_drift_s: float | None = None,
        alerts: int = 0,
        vends_until: datetime | None = None,
    ) -> None:
        """What a security module says of itself, or that it could not be asked."""
        name = self._modules.bounded(module)
        self._module_gauges["answers"].labels(name).set(answers)
        if not answers:
            return
        self._module_gauges["alerts"].labels(name).set(alerts)
        for gauge, value in (
            ("tokens_per_second", tokens_per_s),
            ("clock_drift_seconds", clock_drift_s),
            ("vends_until_seconds", vends_until.timestamp() if vends_until is not None else None),
        ):
            if value is not None:
                self._module_gauges[gauge].labels(name).set(value)

    def link_is(self, link: str, up: bool) -> None:
        """A link to a peer is up or not."""
        self._link_up.labels(self._links.bounded(link)).set(1 if up else 0)

    def link_stands(self, state: LinkState) -> None:
        """How a link to a message centre stands now."""
        name = self._links.bounded(state.link)
        self._link_up.labels(name).set(1 if state.is_up else 0)
        self._link_bound.labels(name).set(1 if state.is_bound else 0)
        self._link_in_flight.labels(name).set(state.in_flight)
        self._link_window.labels(name).set(state.window)
        self._link_queued.labels(name).set(state.queued)
        self._link_rate.labels(name).set(state.sent_per_s)
        self._link_allowed.labels(name).set(state.allowed_per_s)
        for what, count in state.counts.items():
            self._link_counts.labels(name, what).set(count)

    def oldest_owed(self, link: str, seconds: float) -> None:
        """The age of the oldest reply owed to customers of this link; 0 if none is."""
        self._link_owed_age.labels(self._links.bounded(link)).set(max(seconds, 0.0))

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Ask for the queue's length whenever somebody looks, instead of being told."""
        self._queue.set_function(length)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text form, of the type `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    # --- inside -----------------------------------------------------------------------------------------------

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"prepaid_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"prepaid_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"prepaid_{name}", about, labels, registry=self.registry, buckets=tuple(buckets))
