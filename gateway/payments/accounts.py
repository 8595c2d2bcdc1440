"""Sources of money from the settings: each kind from its [[payment]] table and the account at a provider it names.

`config/provider_checks.py` has seen to it that the account is there and whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from config.provider_checks import callback_url
from config.settings import MpesaSettings, PaymentSettings, Settings
from gateway.payments.africastalking import AfricasTalking, AfricasTalkingAccount
from gateway.payments.contract import PaymentSource
from gateway.payments.daraja import DarajaAccount
from gateway.payments.momo import Momo, MomoAccount
from gateway.payments.mpesa_c2b import MpesaC2b
from gateway.payments.mpesa_stk import MpesaStk

Now = Callable[[], datetime]
Factory = Callable[[Settings, PaymentSettings, Now], PaymentSource]


def _mpesa(settings: Settings, source: PaymentSettings) -> tuple[MpesaSettings, DarajaAccount]:
    account = next(one for one in settings.mpesa if one.name == (source.account or source.name))
    return account, DarajaAccount(
        name=source.name,
        base_url=account.base_url,
        consumer_key=account.consumer_key,
        consumer_secret=account.consumer_secret,
        shortcode=account.shortcode,
        callback_url=callback_url(settings.callbacks, source),
        initiator=account.initiator,
        security_credential=account.security_credential,
        timeout_s=account.timeout_s,
        connections_max=account.connections_max,
    )


def mpesa_stk(settings: Settings, source: PaymentSettings, now: Now) -> MpesaStk:
    """Prompts by M-Pesa."""
    account, daraja = _mpesa(settings, source)
    return MpesaStk(
        daraja,
        now,
        passkey=account.passkey,
        confirm_above_minor=account.confirm_above_minor,
        till=account.till,
        account_mark=account.account_mark,
    )


def mpesa_c2b(settings: Settings, source: PaymentSettings, now: Now) -> MpesaC2b:
    """Payments to an M-Pesa number."""
    account, daraja = _mpesa(settings, source)
    return MpesaC2b(daraja, now, account_mark=account.account_mark)


def momo(settings: Settings, source: PaymentSettings, now: Now) -> Momo:
    """Requests to pay by MTN MoMo."""
    account = next(one for one in settings.momo if one.name == (source.account or source.name))
    return Momo(
        MomoAccount(
            name=source.name,
            base_url=account.base_url,
            target=account.target,
            currency=settings.utility.currency,
            minor_digits=settings.utility.minor_digits,
            step_minor=source.step_minor,
            subscription_key=account.subscription_key,
            api_user=account.api_user,
            api_key=account.api_key,
            callback_url=callback_url(settings.callbacks, source) if account.callbacks else "",
            disbursement_key=account.disbursement_key,
            disbursement_user=account.disbursement_user,
            disbursement_api_key=account.disbursement_api_key,
            timeout_s=account.timeout_s,
            connections_max=account.connections_max,
        ),
        now,
    )


def africastalking(settings: Settings, source: PaymentSettings, now: Now) -> AfricasTalking:
    """Mobile checkout by Africa's Talking."""
    account = next(one for one in settings.checkout if one.name == (source.account or source.name))
    return AfricasTalking(
        AfricasTalkingAccount(
            name=source.name,
            base_url=account.base_url,
            username=account.username,
            api_key=account.api_key,
            product=account.product,
            currency=settings.utility.currency,
            minor_digits=settings.utility.minor_digits,
            step_minor=source.step_minor,
            provider_channel=account.provider_channel,
            confirm_above_minor=account.confirm_above_minor,
            timeout_s=account.timeout_s,
            connections_max=account.connections_max,
        ),
        now,
    )


PROVIDERS: Final[Mapping[str, Factory]] = {
    "mpesa_stk": mpesa_stk,
    "mpesa_c2b": mpesa_c2b,
    "momo": momo,
    "africastalking": africastalking,
}
"""The kinds of sources that have an account at a provider."""
