"""Sources from settings: what the tables say is what a source asks with."""

from __future__ import annotations

from config.load import load
from gateway.check import check
from gateway.payments.contract import Asked, Can
from gateway.payments.registry import made
from tests.config.test_provider_settings import CHECKOUT, KENYA, MOMO, MPESA, NOTIFIED, PAYBILL, PROMPT, REQUEST
from tests.gateway.payments.sources import market, now, order

SECRETS = {
    "S": "pay-0123456789abcdef",
    "PREPAID_MPESA__KENYA__CONSUMER_KEY_ENV": "KEY",
    "PREPAID_MPESA__KENYA__CONSUMER_SECRET_ENV": "SECRET",
    "PREPAID_MPESA__KENYA__PASSKEY_ENV": "PASSKEY",
    "PREPAID_MOMO__MTN__SUBSCRIPTION_KEY_ENV": "SUBSCRIPTION",
    "PREPAID_MOMO__MTN__API_KEY_ENV": "API_KEY",
    "PREPAID_CHECKOUT__AT__API_KEY_ENV": "AT_KEY",
    "KEY": "sandbox-key",
    "SECRET": "sandbox-secret",
    "PASSKEY": "sandbox-passkey",
    "SUBSCRIPTION": "sandbox-collection",
    "API_KEY": "sandbox-api-key",
    "AT_KEY": "sandbox-at-key",
}


async def test_each_kind_asks_with_the_credentials_of_its_account() -> None:
    async with market() as place:
        url = place.server.url
        text = (
            KENYA.replace("https://pay.example", place.heard.url)
            + MPESA + f'account_mark = "P"\nbase_url = "{url}"\n' + PROMPT + PAYBILL
            + MOMO + f'base_url = "{url}"\n' + REQUEST + "step_minor = 100\n"
            + CHECKOUT + f'base_url = "{url}"\n' + NOTIFIED + "step_minor = 100\n"
        )  # fmt: skip
        mine = {MOMO: MOMO.replace('"u"', f'"{place.momo.user}"'), CHECKOUT: CHECKOUT.replace('"u"', '"sandbox"')}
        right = text
        for anybodys, ours in mine.items():
            right = right.replace(anybodys, ours)
        settings = load(right, SECRETS)
        found = {finding.part: finding for finding in await check(settings)}
        for name in ("prompt", "paybill", "mtn", "at"):
            assert found[f"source {name}"].is_well, found
        wrong = load(text.replace('"u"', '"nobody"'), {**SECRETS, "SECRET": "wrong", "API_KEY": "wrong"})
        found = {finding.part: finding for finding in await check(wrong)}
        assert {found[f"source {name}"].said for name in ("prompt", "paybill", "mtn", "at")} == {
            "no access token: HTTP 400", "no access token: HTTP 401", "HTTP 401"
        }  # fmt: skip
        for table, source in made(settings, now):
            assert source.name == table.name
            if Can.COLLECT in source.can:
                assert isinstance(await source.collect(order()), Asked)
                await place.operator.idle()
            await source.close()
        assert len(place.operator.wallets.transactions) == 3
