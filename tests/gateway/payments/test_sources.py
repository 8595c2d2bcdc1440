"""Sources as the settings name them, in a gateway that is put together as `prepaid serve` does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import SettingsFaults, load
from gateway.app import opened
from gateway.metrics import Metrics
from gateway.payments.contract import Can
from gateway.payments.registry import Surroundings, made
from ledger.store import migrate
from sts.modules.software import SoftwareModule
from tests.simulation.mobile_money import MobileMoney
from tests.simulation.shop import sample_keys
from tests.simulation.world import SeededWorld

SECRET = "0123456789abcdef"


def _toml(folder: Path, **changes: object) -> str:
    (folder / "secret").write_text(SECRET)
    lines = {"name": "'mpesa'", "kind": "'scripted'", "path_secret_file": f"'{folder}/secret'", **changes}
    table = "\n".join(f"{name} = {value}" for name, value in lines.items())
    return (
        f"[database]\nurl = 'sqlite:///{folder}/test.db'\n[callbacks]\nport = 0\npublic_url = 'https://pay.example'\n"
        f"[[payment]]\n{table}\n"
    )


async def test_a_gateway_serves_the_callbacks_of_its_sources(tmp_path: Path) -> None:
    settings, given = load(_toml(tmp_path), {}), list[Surroundings]()
    await migrate(settings.database.url)

    def factory(source: object, surroundings: Surroundings) -> MobileMoney:
        given.append(surroundings)
        return MobileMoney()

    module = SoftwareModule(sample_keys())
    async with opened(settings, SeededWorld(), Metrics(), module, {"scripted": factory}) as gateway:
        assert gateway.callbacks is not None
        assert [route.path for route in gateway.callbacks.routes] == [f"/payments/mpesa/{SECRET}"]
    assert given[0].callback_url == f"https://pay.example/payments/mpesa/{SECRET}"
    assert (given[0].currency, given[0].minor_digits) == ("USD", 2)


def test_without_secret_and_addresses_no_callbacks_are_taken(tmp_path: Path) -> None:
    (_, source), *_ = made(
        load(_toml(tmp_path).replace("path_secret_file", "#"), {}),
        SeededWorld().now,
        {"scripted": lambda settings, around: MobileMoney(name=around.callback_url or "none")},
    )
    assert source.name == "none"


def test_what_a_source_cannot_be_or_do_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    settings = load(_toml(tmp_path), {})
    with pytest.raises(SettingsFaults, match=r"payment\[mpesa\]\.kind: expected one of other; came 'scripted'"):
        made(settings, SeededWorld().now, {"other": lambda settings, around: MobileMoney()})
    with pytest.raises(SettingsFaults, match=r"payment\[mpesa\]\.collect: expected false"):
        made(
            settings, SeededWorld().now, {"scripted": lambda settings, around: MobileMoney(can=frozenset({Can.NOTIFY}))}
        )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"addresses": "'nowhere'"}, "payment[mpesa].addresses: expected addresses and networks"),
        ({"min_minor": 5, "max_minor": 4}, "payment[mpesa].min_minor: expected at most max_minor"),
        ({"path_secret": "'inline-0123456789'"}, "payment[mpesa]"),
        ({"prefixes": "'07x'"}, "payment[mpesa].prefixes"),
        ({"order_s": 1}, "payment[mpesa].order_s"),
    ],
)
def test_faults_of_a_table_are_told_by_name(tmp_path: Path, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsFaults) as faults:
        load(_toml(tmp_path, **wrong), {})
    assert words in str(faults.value) and SECRET not in str(faults.value)
