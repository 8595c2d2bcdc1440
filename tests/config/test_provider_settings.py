"""Accounts at providers of money: what must be there, what must fit together, and that no fault shows a secret."""

from __future__ import annotations

import pytest

from config.load import SettingsFaults, load
from config.provider_checks import callback_url

SECRET = "hunter2-correct-horse"
ENVIRONMENT = {"S": SECRET}
KENYA = '[utility]\ncurrency = "KES"\n[callbacks]\npublic_url = "https://pay.example"\n'
MPESA = (
    '[[mpesa]]\nname = "kenya"\nshortcode = "600987"\nconsumer_key_env = "S"\nconsumer_secret_env = "S"\n'
    'passkey_env = "S"\n'
)
PROMPT = (
    '[[payment]]\nname = "prompt"\nkind = "mpesa_stk"\naccount = "kenya"\nstep_minor = 100\npath_secret_env = "S"\n'
)
PAYBILL = (
    '[[payment]]\nname = "paybill"\nkind = "mpesa_c2b"\ncollect = false\naccount = "kenya"\npath_secret_env = "S"\n'
)
MOMO = '[[momo]]\nname = "mtn"\ntarget = "sandbox"\nsubscription_key_env = "S"\napi_user = "u"\napi_key_env = "S"\n'
REQUEST = '[[payment]]\nname = "mtn"\nkind = "momo"\n'
CHECKOUT = '[[checkout]]\nname = "at"\nusername = "u"\nproduct = "Electricity"\napi_key_env = "S"\n'
NOTIFIED = '[[payment]]\nname = "at"\nkind = "africastalking"\npath_secret_env = "S"\n'


def test_every_kind_is_set_up_with_its_account() -> None:
    settings = load(
        KENYA + MPESA + 'account_mark = "P"\n' + PROMPT + PAYBILL + MOMO + REQUEST + CHECKOUT + NOTIFIED, ENVIRONMENT
    )
    assert [source.kind for source in settings.payment] == ["mpesa_stk", "mpesa_c2b", "momo", "africastalking"]
    assert settings.mpesa[0].passkey.reveal() == SECRET
    urls = [callback_url(settings.callbacks, source) for source in settings.payment]
    assert urls[0] == f"https://pay.example/payments/prompt/{SECRET}"
    assert urls[2] == ""  # nothing proves whose a callback would be
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (KENYA + PROMPT, "payment[prompt].account: expected the name of a [[mpesa]] table; came 'kenya'"),
        (KENYA + REQUEST, "payment[mtn].account: expected the name of a [[momo]] table; came 'mtn'"),
        (MPESA + PROMPT, "utility.currency: expected KES with 2 minor_digits"),
        (KENYA + MPESA.replace("passkey", "#passkey") + PROMPT, "mpesa[kenya].passkey: expected passkey_file"),
        (KENYA + MPESA.replace("consumer_key_env", "#"), "mpesa[kenya].consumer_key: expected consumer_key_file or"),
        (KENYA + MPESA + PROMPT.replace("step_minor = 100", ""), "payment[prompt].step_minor: expected a multiple"),
        (KENYA.replace("public_url", "#") + MPESA + PROMPT, "payment[prompt]: expected path_secret or addresses, and"),
        (KENYA + MPESA + PROMPT.replace("path_secret_env", "#"), "payment[prompt]: expected path_secret or addresses"),
        (KENYA + MPESA + PROMPT.replace('"prompt"', '"mpesa"'), "payment[mpesa]: expected a name, a public_url and"),
        (KENYA + MPESA + PROMPT + PAYBILL, "mpesa[kenya].account_mark: expected a letter, the same wherever"),
        (KENYA + MPESA + PROMPT + PROMPT.replace('"prompt"', '"again"'), "shortcode: expected one source of kind"),
        (KENYA + MPESA + 'base_url = "http://api.example"\n', "mpesa[kenya].base_url: expected https, but"),
        (KENYA + MPESA + f'base_url = "https://u:{SECRET}@api.example"\n', "base_url: expected an address without a"),
        (KENYA + MPESA + 'initiator = "x"\n', "mpesa[kenya].security_credential: expected a value, since there is"),
        (KENYA + MPESA + f'security_credential = "{SECRET}"\n',
         "security_credential: expected security_credential_file or security_credential_env; came the secret itself"),
        (MOMO + 'disbursement_user = "u"\n', "momo[mtn].disbursement_key: expected a value, since there is"),
        (MOMO.replace("api_key_env", "#"), "momo[mtn].api_key: expected api_key_file or api_key_env; came none"),
        (CHECKOUT + NOTIFIED.replace("path_secret_env", "#"), "payment[at]: expected path_secret or addresses"),
        (CHECKOUT.replace("api_key_env", "#"), "checkout[at].api_key: expected api_key_file or api_key_env; came none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_by_its_place(text: str, fault: str) -> None:
    with pytest.raises(SettingsFaults) as caught:
        load(text, ENVIRONMENT)
    assert fault in str(caught.value)
    assert SECRET not in str(caught.value)
