"""Sources of money from the settings: each kind from its [[payment]] table and the account at a provider it names.

`config/provider_checks.py` has seen to it that the account is there and whole.
"""

from __future__ import annotations

from config.money import MpesaSettings, PaymentSettings
from gateway.payments.africastalking import AfricasTalking, AfricasTalkingAccount
from gateway.payments.daraja import DarajaAccount
from gateway.payments.momo import Momo, MomoAccount
from gateway.payments.mpesa_c2b import MpesaC2b
from gateway.payments.mpesa_stk import MpesaStk
from gateway.payments.surroundings import Surroundings


def _mpesa(source: PaymentSettings, around: Surroundings) -> tuple[MpesaSettings, DarajaAccount]:
    account = next(one for one in around.settings.mpesa if one.name == (source.account or source.name))
    return account, DarajaAccount(
        name=source.name,
        base_url=account.base_url,
        consumer_key=account.consumer_key,
        consumer_secret=account.consumer_secret,
        shortcode=account.shortcode,
        callback_url=around.callback_url,
        initiator=account.initiator,
        security_credential=account.security_credential,
        timeout_s=account.timeout_s,
        connections_max=account.connections_max,
    )


def mpesa_stk(source: PaymentSettings, around: Surroundings) -> MpesaStk:
    """Prompts by M-Pesa."""
    account, daraja = _mpesa(source, around)
    return MpesaStk(
        daraja,
        around.now,
        passkey=account.passkey,
        confirm_above_minor=account.confirm_above_minor,
        till=account.till,
        account_mark=account.account_mark,
    )


def mpesa_c2b(source: PaymentSettings, around: Surroundings) -> MpesaC2b:
    """Payments to an M-Pesa number."""
    account, daraja = _mpesa(source, around)
    return MpesaC2b(daraja, around.now, account_mark=account.account_mark)


def momo(source: PaymentSettings, around: Surroundings) -> Momo:
    """Requests to pay by MTN MoMo."""
    account = next(one for one in around.settings.momo if one.name == (source.account or source.name))
    return Momo(
        MomoAccount(
            name=source.name,
            base_url=account.base_url,
            target=account.target,
            currency=around.currency,
            minor_digits=around.minor_digits,
            step_minor=source.step_minor,
            subscription_key=account.subscription_key,
            api_user=account.api_user,
            api_key=account.api_key,
            callback_url=around.callback_url if account.callbacks else "",
            disbursement_key=account.disbursement_key,
            disbursement_user=account.disbursement_user,
            disbursement_api_key=account.disbursement_api_key,
            timeout_s=account.timeout_s,
            connections_max=account.connections_max,
        ),
        around.now,
    )


def africastalking(source: PaymentSettings, around: Surroundings) -> AfricasTalking:
    """Mobile checkout by Africa's Talking."""
    account = next(one for one in around.settings.checkout if one.name == (source.account or source.name))
    return AfricasTalking(
        AfricasTalkingAccount(
            name=source.name,
            base_url=account.base_url,
            username=account.username,
            api_key=account.api_key,
            product=account.product,
            currency=around.currency,
            minor_digits=around.minor_digits,
            step_minor=source.step_minor,
            provider_channel=account.provider_channel,
            confirm_above_minor=account.confirm_above_minor,
            timeout_s=account.timeout_s,
            connections_max=account.connections_max,
        ),
        around.now,
    )
