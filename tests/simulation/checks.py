"""What must be true after a run of `tests/simulation/service.py`, whatever happened in it."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from channels.commands import Buy
from channels.contract import Inbound, Message
from channels.wording import render
from gateway import tokens
from gateway.deeds import TOMBSTONE
from gateway.demo import tokens_in
from gateway.purchase import State
from ledger.accounts import id_of
from ledger.unit import Meter, PurchaseRow
from sts.meter import Meter as Device
from sts.modules.contract import KeyChangeRequest
from sts.tables import SAMPLE
from tests.simulation.loop import START
from tests.simulation.reversals import ACCEPTED
from tests.simulation.service import KEYS, Books, Run, catalogue

RECEIPTS: Final = ("sold", "sold_no_token")


def complaints_of(run: Run, after: Books, records: list[logging.LogRecord]) -> list[str]:
    """Everything that is not as it must be; empty when all is well."""
    found = [*run.complaints, *run.centre.bugs, *after.broken]
    for check in (
        _acknowledged_texts_have_one_outcome,
        _sales_have_their_tokens,
        _replies_arrive_and_copies_are_alike,
        _shown_tokens_belong_to_sales,
        _meters_take_every_token_once,
        _money_is_conserved,
        _counters_add_up,
        _limits_are_kept,
        _the_module_hears_the_same,
        _the_same_wish_is_granted_once,
        _nobody_hears_twice_without_cause,
        _what_was_taken_back_is_nobodys,
    ):
        found.extend(check(run, after))
    found.extend(_the_log_is_quiet(run, records))
    return list(dict.fromkeys(found))


def _acknowledged_texts_have_one_outcome(run: Run, after: Books) -> Iterator[str]:
    sold = {State.VENDED.value, State.DELIVERED.value}
    for reference, acknowledged in run.centre.acknowledged.items():
        requests = after.by_reference.get(reference, [])
        if len(requests) != 1:
            yield f"an acknowledged text is {'stored twice' if requests else 'not stored'}: {reference}"
            continue
        (request,) = requests
        if request.fingerprint == TOMBSTONE:
            if request.id in after.purchases or not after.replies_of[request.id]:
                yield f"a text that came after its reversal was not refused: {reference}"
            continue
        silent = ("duplicate_differs",)
        own = [r for r in after.replies_of[request.id] if r.message not in silent and r.state != "WITHDRAWN"]
        if len(own) != 1:
            yield f"an acknowledged text has {len(own)} outcomes: {reference} {[row.message for row in own]}"
        if request.fingerprint not in {inbound.fingerprint for inbound in run.centre.offered[reference]}:
            yield f"a request was stored that nobody sent: {reference}"
        if any(inbound.fingerprint != request.fingerprint for inbound in acknowledged):
            if not any(row.message == "duplicate_differs" for row in after.replies_of[request.id]):
                yield f"a reference that came again with another text was not refused: {reference}"
        purchase = after.purchases.get(request.id)
        if purchase is not None and any((row.message in RECEIPTS) != (purchase.state in sold) for row in own):
            yield f"a purchase that is {purchase.state} was answered {[row.message for row in own]}"


def _sales_have_their_tokens(run: Run, after: Books) -> Iterator[str]:
    drn_of = {meter.id: meter for meter in after.meters.values()}
    seen: set[tuple[UUID, int, int]] = set()
    for purchase in after.purchases.values():
        made = after.tokens[purchase.id]
        is_vended = purchase.state in (State.VENDED, State.DELIVERED)
        is_sealed = purchase.state == State.SEALED
        if after.sales[purchase.id] != (is_vended or is_sealed):
            yield f"a purchase that is {purchase.state} has {after.sales[purchase.id]} sales"
        for token in made:
            if token.tid is not None:
                place = (token.meter_id, token.base_date, token.tid)
                if place in seen:
                    yield f"two tokens with one TID: {place}"
                seen.add(place)
        if not (is_vended or is_sealed):
            if any(token.digits for token in made) and purchase.reason != "KEY_CHANGE_FIRST":
                yield f"a purchase that is {purchase.state} has tokens"
            continue
        if purchase.id in after.resold:
            # Nobody has seen them, and by now they are another sale's (docs/decisions/0044).
            if made or not is_sealed or any(row.message == "sold" and row.state != "WITHDRAWN"
                                            for row in after.replies_of[purchase.id]):  # fmt: skip
                yield f"tokens of a sale that stands, or were seen, were sold again: purchase {purchase.id}"
            continue
        sale = json.loads(purchase.sale or "{}")
        kinds = Counter(token.kind for token in made)
        if (kinds["credit"], kinds["free"]) != (int(sale["units_tenths"] > 0), int(sale["free_units_tenths"] > 0)):
            yield f"a sale has tokens {dict(kinds)} for {sale['units_tenths']} + {sale['free_units_tenths']} units"
        expected: list[str] = []
        for request, _ in tokens.requests(drn_of[purchase.meter_id], made):
            if isinstance(request, KeyChangeRequest):
                expected.extend(run.signer.make_set(request, now=purchase.accepted_at))
            else:
                expected.append(run.signer.make(request))
        if expected != [token.digits for token in made]:
            yield f"a token is not what its stored inputs give: purchase {purchase.id}"
        for row in after.replies_of[purchase.id]:
            if row.message == "sold" and json.loads(row.fields)["tokens"] != tokens.shown(made):
                yield f"a receipt shows other tokens than were stored: purchase {purchase.id}"


def _replies_arrive_and_copies_are_alike(run: Run, after: Books) -> Iterator[str]:
    centre = run.centre
    for row in after.outbox.values():
        copies = centre.copies.get(row.id, [])
        if row.state == "SENT" and not copies:
            yield f"a reply is marked as sent and never arrived: {row.message}"
        if (
            row.state == "DEAD"
            and not centre.refused_for_good[row.id]
            and row.attempts < run.plan.delivery.attempts_max
        ):
            yield f"a reply was given up although nobody had refused it: {row.message}"
        if row.state == "WITHDRAWN" and copies:
            yield f"a reply that was withdrawn arrived: {row.message}"
        if row.state not in ("SENT", "DEAD", "WITHDRAWN"):
            yield f"a reply is still {row.state}: {row.message}"
        if len(set(copies)) > 1:
            yield f"copies of a reply differ: {row.message}"
        if copies and copies[0] != (row.recipient, _render_row(row)):
            yield f"what arrived is not what was stored: {row.message}"
    for reply_id in centre.copies:
        if reply_id not in after.outbox:
            yield f"a reply was sent that is not stored: {centre.replies[reply_id].message.key}"


def _render_row(row: Any) -> str:
    message = Message(row.message, json.loads(row.fields))
    return render(message, row.language, catalogue()[0])


def _shown_tokens_belong_to_sales(run: Run, after: Books) -> Iterator[str]:
    sold = {token.digits: purchase for purchase in after.vended for token in after.tokens[purchase.id]}
    sets = {token.digits for made in after.tokens.values() for token in made if token.kind == tokens.KEY_CHANGE}
    for reply_id, copies in run.centre.copies.items():
        for phone, text in copies[:1]:
            for digits in tokens_in(text):
                if digits not in sold and digits not in sets:
                    yield f"a phone was shown a token of no sale: {run.centre.replies[reply_id].message.key}"
                elif digits in sold and run.centre.replies[reply_id].message.key == "sold":
                    if sold[digits].sender != phone and digits not in sets:
                        yield f"a phone was shown another phone's token: {phone}"


def _meters_take_every_token_once(run: Run, after: Books) -> Iterator[str]:
    """Every meter gets its tokens typed in, in the order of issue, and then all of them once more."""
    shown = [row for row in after.purchases.values() if row in after.vended or row.reason == "KEY_CHANGE_FIRST"]
    for meter in run.before.meters.values():
        mine = [after.tokens[row.id] for row in shown if row.meter_id == meter.id and after.tokens[row.id]]
        device, at, expected = _device(meter), START, 0
        for made in sorted(mine, key=lambda made: max((token.base_date, token.tid or 0) for token in made)):
            at += timedelta(hours=1)  # a meter that saw wrong tokens locks its keypad for a while
            for token in made:
                assert token.digits is not None
                if token.new_key is not None and int(token.new_key.split(".")[3]) == device.key_revision:
                    continue  # the set was given again, and has been typed in before
                at += timedelta(seconds=20)  # the tokens of a set belong together
                result = device.enter(token.digits, at).result
                if not result.is_accepted:
                    yield f"meter {meter.drn} does not take a {token.kind} token: {result.name}"
                expected += token.units_tenths
        if device.electricity_tenths != expected:
            yield f"meter {meter.drn} has {device.electricity_tenths} tenths, was sold {expected}"
        for made in mine:
            for token in made:
                at += timedelta(hours=1)
                if token.kind != tokens.KEY_CHANGE and device.enter(token.digits or "", at).result.is_accepted:
                    yield f"meter {meter.drn} takes a token twice"


def _device(meter: Meter) -> Device:
    handle = tokens.key_of(meter)
    name = (handle.supply_group, handle.key_revision, handle.dkga, handle.base_date)
    (key,) = [each.key for each in KEYS if (each.supply_group, each.key_revision, each.dkga, each.base_date) == name]
    return Device(handle, key.derive(handle, SAMPLE))


def _money_is_conserved(run: Run, after: Books) -> Iterator[str]:
    spent = Counter({account: 0 for account in after.balances})
    for row in after.vended:
        assert row.payer_id is not None
        spent[row.payer_id] += row.amount_minor
        spent[id_of("commission:ST002")] -= json.loads(row.sale or "{}")["commission_minor"]
    for account, (posted, pending) in after.balances.items():
        if posted != run.before.balances[account][0] - spent[account]:
            yield f"an account has {posted}, expected {run.before.balances[account][0]} - {spent[account]}"
        if pending:
            yield f"money is held that nobody waits for: {pending}"


def _counters_add_up(run: Run, after: Books) -> Iterator[str]:
    """No sale was priced on counters that another one was about to change."""
    units, carry, debts = Counter[UUID](), Counter[UUID](), Counter[str]()
    for row in after.vended:
        sale = json.loads(row.sale or "{}")
        units[row.service_point_id] += sale["units_tenths"]
        carry[row.service_point_id] += sale["carry_out_minor"] - sale["carry_in_minor"]
        debts.update(sale["debts_minor"])
    for point in after.points.values():
        before = run.before.points[point.id]
        if point.month_units_tenths != before.month_units_tenths + units[point.id]:
            yield f"{point.code} counts {point.month_units_tenths} tenths this month, was sold {units[point.id]}"
        if point.carry_minor != before.carry_minor + carry[point.id]:
            yield f"{point.code} carries {point.carry_minor}, its sales left {carry[point.id]}"
    for debt in after.debts.values():
        if debt.outstanding_minor != run.before.debts[debt.code].outstanding_minor - debts[debt.code]:
            yield f"debt {debt.code} is {debt.outstanding_minor}, its sales took {debts[debt.code]}"


def _limits_are_kept(run: Run, after: Books) -> Iterator[str]:
    stored = [token for made in after.tokens.values() for token in made]
    for row in after.limits:
        name = (row.supply_group, row.key_revision, row.key_type, row.key_generation, row.base_date)
        kinds = [token for token in stored if tokens.key_name(token) == name]
        sold = [token for token in kinds if token.kind != tokens.KEY_CHANGE]
        units = sum(token.units_tenths for token in kinds)
        if row.token_limit is not None or row.units_limit_tenths is not None:
            if row.tokens_made < len(sold) or row.units_made_tenths < units:
                yield f"a key's count is behind: {row.tokens_made} of {len(sold)}, {row.units_made_tenths} of {units}"


def _the_module_hears_the_same(run: Run, after: Books) -> Iterator[str]:
    """A module that was asked twice for one token identifier was asked for the same token."""
    places = Counter((request.key.drn, request.key.base_date, request.tid) for request in set(run.module.asked))
    if any(count > 1 for count in places.values()):
        yield "the module was asked for two tokens with one TID"


def _the_same_wish_is_granted_once(run: Run, after: Books) -> Iterator[str]:
    """Within the window, one sender gets one meter and amount once, unless insisting. Clocks set wrong void this."""
    window = timedelta(seconds=run.plan.purchase.just_bought_window_s)
    if run.plan.clock_steps or not window:
        return
    insisted = {reference for reference, several in run.centre.offered.items() if any(_insists(one) for one in several)}
    plain: defaultdict[tuple[str, UUID, int], list[PurchaseRow]] = defaultdict(list)
    for reference, requests in after.by_reference.items():
        row = after.purchases.get(requests[0].id)
        if row is not None and row in after.vended and reference not in insisted:
            plain[row.sender, row.meter_id, row.amount_minor].append(row)
    for rows in plain.values():
        rows.sort(key=lambda row: row.accepted_at)
        for first, second in zip(rows, rows[1:], strict=False):
            if second.accepted_at - first.accepted_at < window:
                yield f"the same wish was granted twice within {second.accepted_at - first.accepted_at}"


def _insists(inbound: Inbound) -> bool:
    return isinstance(inbound.command, Buy) and inbound.command.nth > 1


def _nobody_hears_twice_without_cause(run: Run, after: Books) -> Iterator[str]:
    """A reply comes again only if we could not know that it came, or fell before we had written that down."""
    plan = run.plan
    if plan.database_troubles or plan.clock_steps or plan.queue_max < 1000:
        return
    for reply_id, copies in run.centre.copies.items():
        if len(copies) > 1 + plan.crashes + run.centre.doubtful[reply_id]:
            yield f"a reply came {len(copies)} times: {run.centre.replies[reply_id].message.key}"


def _what_was_taken_back_is_nobodys(run: Run, after: Books) -> Iterator[str]:
    """Whoever was told that a purchase is taken back finds it so; and a repeat hears what was said first."""
    for key, several in run.peers.answers.items():
        if len({(result.answer, result.reason) for result in several}) > 1:
            yield f"a repeat of a reversal was answered otherwise: {key} {several}"
    sold = {row.id for row in after.vended}
    for original, several in run.peers.by_original.items():
        requests = after.by_reference.get(original.partition("|")[2], [])
        if any(result.answer in ACCEPTED for result in several) and any(request.id in sold for request in requests):
            yield f"a purchase stands that was taken back: {original}"


# What may be logged as an error, and when. Anything else is a bug of ours.
_GIVEN_UP: Final = "a reply was given up"
_REFUSED: Final = "the security module refused a token"
_NO_STORE: Final = (
    "a request could not be stored",
    "a purchase could not go on",
    "a reversal could not be stored",
    "a reply could not be marked; its lease will run out",
    "owed replies could not be claimed",
)


def _the_log_is_quiet(run: Run, records: list[logging.LogRecord]) -> Iterator[str]:
    plan = run.plan
    allowed = {_GIVEN_UP} if run.centre.dead_numbers else set()
    if plan.module_refusals or plan.clock_steps:
        allowed.add(_REFUSED)
    if plan.database_troubles or plan.queue_max < 1000:
        allowed.update(_NO_STORE)
    for record in records:
        if record.levelno >= logging.ERROR and record.msg not in allowed:
            cause = record.exc_info[1] if record.exc_info else None
            yield f"logged as an error: {record.getMessage()} {getattr(record, 'fault', '')} {cause!r}"
        elif record.msg in _NO_STORE and record.exc_info and isinstance(record.exc_info[1], sqlite3.IntegrityError):
            yield f"logged: {record.msg} {record.exc_info[1]!r}"
        elif record.name == "ledger.store" and "Operational" not in record.getMessage():
            yield f"logged: {record.getMessage()}"
