"""What is counted, under which names, and that names of labels cannot grow without bound."""

from __future__ import annotations

import re
from pathlib import Path

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from channels.contract import Outcome
from gateway.metrics import NAMES_MAX, NO_REASON, LinkState, Metrics
from gateway.purchase import State
from ledger.reasons import Reason


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_everything_that_happens_is_counted_under_its_name() -> None:
    metrics = Metrics()
    metrics.request("sms", "Buy")
    metrics.replay("sms")
    metrics.not_stored("sms")
    metrics.outcome("sms", Reason.FUNDS_SHORT)
    metrics.outcome("sms", None)
    metrics.purchase_entered(State.VENDED)
    metrics.reply("sms", Outcome.TAKEN)
    metrics.batch(3, 0.002)
    metrics.token_made(0.001)
    metrics.answered(0.2)
    metrics.log_line_masked()
    metrics.fault("delivery")
    metrics.outbox(2, 12.5)
    metrics.link_stands(_link(is_up=True))
    metrics.response("orange", "ESME_ROK", 0.004)
    metrics.bind_refused("orange", "ESME_RBINDFAIL")
    metrics.receipt("orange", "DELIVRD")
    metrics.delivered("orange", 7.0)
    metrics.oldest_owed("orange", 3.5)
    metrics.watch_queue(lambda: 7)
    assert _value(metrics, "prepaid_requests_total", channel="sms", command="Buy") == 1
    assert _value(metrics, "prepaid_replays_total", channel="sms") == 1
    assert _value(metrics, "prepaid_not_stored_total", channel="sms") == 1
    assert _value(metrics, "prepaid_outcomes_total", channel="sms", reason="FUNDS_SHORT") == 1
    assert _value(metrics, "prepaid_outcomes_total", channel="sms", reason=NO_REASON) == 1
    assert _value(metrics, "prepaid_purchase_states_total", state="VENDED") == 1
    assert _value(metrics, "prepaid_replies_total", channel="sms", outcome="taken") == 1
    assert _value(metrics, "prepaid_batch_size_sum") == 3
    assert _value(metrics, "prepaid_batch_seconds_bucket", le="0.0025") == 1
    assert _value(metrics, "prepaid_token_seconds_count") == 1
    assert _value(metrics, "prepaid_answer_seconds_count") == 1
    assert _value(metrics, "prepaid_log_lines_masked_total") == 1
    assert _value(metrics, "prepaid_faults_total", part="delivery") == 1
    assert _value(metrics, "prepaid_outbox_owed") == 2
    assert _value(metrics, "prepaid_outbox_owed_age_seconds") == 12.5
    assert _value(metrics, "prepaid_link_up", link="orange") == 1
    assert _value(metrics, "prepaid_link_bound", link="orange") == 1
    assert _value(metrics, "prepaid_link_in_flight", link="orange") == 3
    assert _value(metrics, "prepaid_link_window", link="orange") == 10
    assert _value(metrics, "prepaid_link_queued", link="orange") == 4
    assert _value(metrics, "prepaid_link_sent_per_second", link="orange") == 2.5
    assert _value(metrics, "prepaid_link_allowed_per_second", link="orange") == float("inf")
    assert _value(metrics, "prepaid_link_messages", link="orange", what="submits") == 9
    assert _value(metrics, "prepaid_link_responses_total", link="orange", status="ESME_ROK") == 1
    assert _value(metrics, "prepaid_link_response_seconds_bucket", link="orange", le="0.005") == 1
    assert _value(metrics, "prepaid_link_binds_refused_total", link="orange", status="ESME_RBINDFAIL") == 1
    assert _value(metrics, "prepaid_receipts_total", link="orange", state="DELIVRD") == 1
    assert _value(metrics, "prepaid_link_delivery_seconds_bucket", link="orange", le="10.0") == 1
    assert _value(metrics, "prepaid_link_owed_age_seconds", link="orange") == 3.5
    assert _value(metrics, "prepaid_queue_length") == 7


def _link(*, is_up: bool) -> LinkState:
    return LinkState("orange", is_up, True, 3, 10, 4, 2.5, float("inf"), {"submits": 9})


def test_an_empty_outbox_has_no_age_and_a_link_goes_down() -> None:
    metrics = Metrics()
    metrics.outbox(0, 99.0)
    metrics.link_stands(_link(is_up=True))
    metrics.link_stands(_link(is_up=False))
    assert _value(metrics, "prepaid_outbox_owed_age_seconds") == 0
    assert _value(metrics, "prepaid_link_up", link="orange") == 0


def test_the_length_of_the_queue_can_be_asked_for_instead_of_told() -> None:
    metrics, queue = Metrics(), [1, 2, 3]
    metrics.watch_queue(lambda: len(queue))
    queue.pop()
    assert _value(metrics, "prepaid_queue_length") == 2


def test_too_many_names_become_other() -> None:
    metrics = Metrics()
    for number in range(NAMES_MAX + 5):
        metrics.request(f"channel-{number}", "Buy")
    metrics.request("channel-0", "Buy")
    metrics.request("x" * 65, "Buy")
    assert _value(metrics, "prepaid_requests_total", channel="channel-0", command="Buy") == 2
    assert _value(metrics, "prepaid_requests_total", channel="other", command="Buy") == 6


def test_two_of_them_do_not_count_into_each_other_nor_into_the_global_registry() -> None:
    first, second = Metrics(), Metrics()
    first.replay("sms")
    assert _value(second, "prepaid_replays_total", channel="sms") is None
    assert prometheus_client.REGISTRY.get_sample_value("prepaid_replays_total", {"channel": "sms"}) is None


def test_the_exposition_is_read_by_prometheus_own_parser_and_explains_every_metric() -> None:
    metrics = Metrics()
    metrics.request('s"m\ns', "Buy")
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    assert all(family.documentation.endswith(".") for family in families if not family.name.endswith("_created"))
    assert {"prepaid_requests", "prepaid_batch_seconds", "prepaid_link_up"} <= {family.name for family in families}


def test_whoever_runs_it_finds_every_metric_in_the_handbook_and_no_other() -> None:
    told = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    named = {name.removesuffix("_total") for name in re.findall(r"`(prepaid_[a-z_]+)", told)}
    # Those of security modules stand in one line, each but the first without its beginning.
    named |= {f"prepaid_module{end.removesuffix('_total')}" for end in re.findall(r"`(_[a-z_]+)`", told)}
    known = {family.name for family in Metrics().registry.collect()}
    assert sorted(known - named) == [] and sorted(named - known) == []
