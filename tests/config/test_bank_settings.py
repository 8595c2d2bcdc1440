"""What the settings of a bank must have together, fault by fault."""

from __future__ import annotations

import pytest

from config.load import SettingsFaults, load

BANK = "[[bank]]\nname = 'kcb'\ncurrency = '404'\n"
DIALLED = BANK + "dial = '10.0.0.1:9583'\n"
LISTENS = BANK + "listen = '0.0.0.0:9583'\n"


# fmt: off
@pytest.mark.parametrize(("text", "fault"), [
    (BANK, "bank[kcb]: expected listen or dial: where its links are; came neither"),
    (BANK + "listen = ':9583'", "bank[kcb].listen: expected a host and a port"),
    (BANK + "listen = '0.0.0.0:95830'\naddresses = '10.0.0.1'", "bank[kcb].listen: expected ports up to 65535"),
    (BANK + "dial = '10.0.0.1:95830'", "bank[kcb].dial: expected ports up to 65535"),
    (LISTENS, "bank[kcb]: expected addresses or tls_ca_file: whoever dials must prove to be the bank; came neither"),
    (LISTENS + "addresses = '10.0.0'", "bank[kcb].addresses: expected addresses and networks"),
    (LISTENS + "addresses = '10.0.0.1'\ntls = true", "bank[kcb].tls_certificate_file: expected a path, since links"),
    (DIALLED + "tls_ca_file = 'ca.pem'", "bank[kcb].tls: expected true, since tls_ca_file is set"),
    (DIALLED + "tls = true\ntls_key_file = 'k'", "bank[kcb].tls_certificate_file: expected a path, since the other"),
    (LISTENS + "addresses = '::1'\ntls = true\ntls_certificate_file = 'c'\ntls_key_file = 'k'\ntls_peer_names = 'x'",
     "bank[kcb].tls_ca_file: expected a path, since tls_peer_names is set"),
    (DIALLED.replace("kcb", "bank"), "bank[bank].name: expected another name than \"bank\""),
    (DIALLED + "zmk = '0123'", "bank[kcb].zmk: expected zmk_file or zmk_env; came the secret itself (not shown)"),
    (DIALLED + "zak_env = 'ZAK'", "bank[kcb].zmk: expected the key that zak travels under; came none"),
    (DIALLED.replace("404", "Ksh"), "bank[kcb].currency: expected three capital letters or three digits"),
])
# fmt: on
def test_a_fault_says_where_and_what_was_expected(text: str, fault: str) -> None:
    with pytest.raises(SettingsFaults) as caught:
        load(text, {"ZAK": "X0123"})
    (found,) = map(str, caught.value.faults)
    assert found.startswith(fault)


def test_every_fault_of_a_bank_is_told_at_once() -> None:
    with pytest.raises(SettingsFaults) as caught:
        load(BANK.replace("kcb", "bank") + "tls_peer_names = 'x'", {})
    assert len(caught.value.faults) == 3


def test_a_bank_is_reached_by_its_name_in_the_environment() -> None:
    (bank,) = load(DIALLED, {"PREPAID_BANK__KCB__LINKS_MAX": "9"}).bank
    assert (bank.links_max, bank.profile) == (9, "atm87")
