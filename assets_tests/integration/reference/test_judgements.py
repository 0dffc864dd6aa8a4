"""Names are never joined by themselves: similar ones are proposed, and count once a person has confirmed them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from assets_tests.support.listings_lake import take as take_whole
from assets_tests.support.reference_lake import rows, take
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.simulators.gleif import Gleif, lei_of
from lakehouse.simulators.market_register import MarketRegister
from lakehouse.simulators.permid_api import PermidApi, invented

MOMENT = datetime(2024, 10, 28, tzinfo=UTC)
PROPOSED = "SELECT scheme, value, subject FROM reference.judgements WHERE decision = 'proposed' ORDER BY ALL"


@pytest.fixture
def lake(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Entities, an organisation that PermID knows by a similar name, and a market whose operator has no LEI."""
    gleif = Gleif(tmp_path / "published")
    for number, name in (
        (1, "Siemens Energy AG"),
        (2, "Siemens Healthineers AG"),
        (3, "Soci\u00e9t\u00e9 de Bourse S.A."),
    ):
        gleif.put_entity(number, name, MOMENT)
    gleif.tick(MOMENT)
    (tmp_path / "place").mkdir()
    shutil.copy(gleif.publish_full(MOMENT, ["lei2"])[0], tmp_path / "place")
    register = MarketRegister(tmp_path / "register")
    register.add("XSDB", MOMENT.date())
    register.change("XSDB", LEGAL_ENTITY_NAME="SOCIETE DE BOURSE")
    register.publish(MOMENT.date())
    register.write(MOMENT.date())
    with PermidApi(
        {"SIE": invented("SIE", "Siemens Energy Aktiengesellschaft", "XETR", 100_000_000)}, api_key="a"
    ) as api:
        for name, value in {
            "LAKEHOUSE_GLEIF_URL": str(tmp_path / "place"),
            "LAKEHOUSE_MIC_URL": str(register.folder),
            "LAKEHOUSE_PERMID_URL": api.url,
            "LAKEHOUSE_PERMID_QUERIES": "SIE",
            "PERMID_API_KEY": "a",
        }.items():
            monkeypatch.setenv(name, value)
        take("gleif")
        take("mic")
        take_whole("permid")
        yield


def lakehouse(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})


def decided(*arguments: str) -> None:
    done = lakehouse("judgements", *arguments, "--by", "a person")
    assert done.exit_code == 0, done.output
    take_whole("judgements")


def test_a_confirmed_name_is_an_identifier_until_it_is_rejected(lake: None) -> None:
    assert rows(PROPOSED) == [("mic", "XSDB", lei_of(3)), ("permid", "100000000", lei_of(1))]
    listed = lakehouse("judgements", "list")
    assert listed.exit_code == 0
    assert lei_of(3) in listed.output
    assert Lake.open().resolve("100000000", to="lei").status == "none"
    decided("confirm", "permid", "100000000", lei_of(1))
    decided("reject", "mic", "XSDB", lei_of(3))
    assert rows(PROPOSED) == []
    found = Lake.open().resolve("100000000", to="lei")
    assert [(answer.value, answer.steps[0]["source"]) for answer in found.answers] == [(lei_of(1), "judgements")]
    assert Lake.open().resolve("XSDB", to="lei").status == "none"
    confirmed_at = datetime.now(UTC)
    decided("reject", "permid", "100000000", lei_of(1))
    assert Lake.open().resolve("100000000", to="lei").status == "none"
    assert Lake.open().resolve("100000000", to="lei", known=confirmed_at).status == "found"
    decisions = "SELECT decision, decided_by FROM reference.judgements WHERE scheme = 'permid'"
    assert rows(decisions) == [("rejected", "a person")]
    # The same LEI with another check digit is none.
    wrong = f"{lei_of(1)[:-1]}{(int(lei_of(1)[-1]) + 1) % 10}"
    refused = lakehouse("judgements", "confirm", "permid", "100000000", wrong)
    assert refused.exit_code != 0
    assert "expected the check digits" in refused.output
