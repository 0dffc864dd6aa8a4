"""`resolve` and `crosswalk`: several answers are an answer, the times and markets that are asked for count, and each
answer names the rows that lead to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.listings_lake import take
from assets_tests.support.reference_lake import take as take_publications
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.domains.reference.resolution.schemes import InvalidIdentifier
from lakehouse.simulators.gleif import Gleif, lei_of
from lakehouse.simulators.mapping_api import MappingApi, invented

IBM, SAP = "US4592001014", "DE0007164600"
PUMA, PUMA_SE = "DE0006969603", "529900GRZ2BQY5ZM9N49"
GLEIF = PROJECT_ROOT.parent / "shared" / "data" / "reference" / "gleif" / "gleif-rs"


@pytest.fixture
def mapping(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[MappingApi]:
    known = {
        IBM: invented(IBM, "IBM", "Intl Business Machines Corp", {"XNYS": "UN", "XETR": "GY"}),
        SAP: invented(SAP, "SAP", "SAP SE", {"XETR": "GY"}),
    }
    with MappingApi(known, now=lambda: 0.0) as api:
        monkeypatch.setenv("LAKEHOUSE_OPENFIGI_URL", api.url)
        monkeypatch.setenv("LAKEHOUSE_OPENFIGI_INSTRUMENTS", f"{IBM}, {IBM}/XNYS, {SAP}/XETR")
        take()
        yield api


def figi(mapping: MappingApi, isin: str, mic: str) -> str:
    return str(next(each["figi"] for each in mapping.known[isin] if each["_mic"] == mic))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.output


def test_an_isin_without_a_market_has_all_listings(mapping: MappingApi) -> None:
    found = Lake.open().resolve(IBM)
    assert found.status == "ambiguous"
    assert [each.value for each in found.answers] == sorted(figi(mapping, IBM, mic) for mic in ("XNYS", "XETR"))
    code, output = run("resolve", IBM)
    assert code == 3
    assert all(each.value in output for each in found.answers)


def test_a_market_leaves_one(mapping: MappingApi) -> None:
    assert run("resolve", IBM, "--mic", "XNYS") == (0, f"{figi(mapping, IBM, 'XNYS')}\n")
    assert run("resolve", "IBM", "--mic", "XNYS") == (0, f"{figi(mapping, IBM, 'XNYS')}\n")
    assert run("resolve", "XNYS/IBM", "--to", "isin") == (0, f"{IBM}\n")
    assert run("resolve", figi(mapping, SAP, "XETR"), "--to", "mic_ticker") == (0, "XETR/SAP\n")


def test_none_and_invalid_have_statuses_of_their_own(mapping: MappingApi) -> None:
    code, output = run("resolve", "US0378331005")
    assert (code, "no figi is known" in output) == (4, True)
    code, output = run("resolve", "US4592001015")
    assert code == 2
    assert "'US4592001015' is not an ISIN" in output
    assert "expected the check digit 4" in " ".join(output.split())
    assert run("resolve", "nonsense!")[0] == 2
    assert run("resolve", IBM, "--to", "isni")[0] == 2


def test_explain_names_source_object_row_and_rule(mapping: MappingApi) -> None:
    code, output = run("resolve", IBM, "--mic", "XNYS", "--explain")
    assert code == 0
    (step,) = Lake.open().resolve(IBM, mic="XNYS").answers[0].steps
    assert step["object"] == f"listings/{IBM}/XNYS"
    said = " ".join(output.split())
    assert f"isin {IBM} -> figi {figi(mapping, IBM, 'XNYS')}" in said
    assert f"openfigi, listings/{IBM}/XNYS, row {step['row_number']}" in said
    assert "listings on XNYS" in said


def test_times_count(mapping: MappingApi) -> None:
    today = datetime.now(UTC).date()
    assert run("resolve", SAP, "--on", str(today - timedelta(days=2)))[0] == 4
    assert run("resolve", SAP, "--on", str(today + timedelta(days=2)))[0] == 0
    assert run("resolve", SAP, "--known", "2020-01-01")[0] == 4
    before = datetime.now(UTC)
    mapping.known[SAP] = []
    take()
    assert run("resolve", SAP)[0] == 4
    assert run("resolve", SAP, "--as-of", before.isoformat())[0] == 0


def test_crosswalk_has_a_row_out_per_row_in(mapping: MappingApi, tmp_path: Path) -> None:
    asked = [SAP, IBM, "US0378331005", "US4592001015", "", IBM, SAP]
    mics = ["XETR", "XNYS", "", "", "", "", ""]
    (tmp_path / "in.csv").write_text(
        "isin,mic,note\n" + "".join(f"{isin},{mic},n\n" for isin, mic in zip(asked, mics, strict=True))
    )
    target = tmp_path / "out.csv"
    how = ["--from", "isin", "--to", "figi,mic_ticker", "--input", str(tmp_path / "in.csv"), "--output", str(target)]
    code, output = run("crosswalk", *how)
    assert code == 0, output
    out = pl.read_csv(target)
    assert out["isin"].to_list() == [text or None for text in asked]
    assert out["status"].to_list() == ["found", "found", "none", "invalid", "invalid", "ambiguous", "found"]
    assert out["figi"].to_list()[:3] == [figi(mapping, SAP, "XETR"), figi(mapping, IBM, "XNYS"), None]
    assert out["mic_ticker"].to_list()[1] == "XNYS/IBM"
    assert out["detail"].to_list()[5].startswith("figi: 2 candidates")
    frame = pl.read_csv(tmp_path / "in.csv")
    assert Lake.open().crosswalk(frame, "isin", ["figi", "mic_ticker"]).equals(out)


def test_crosswalk_explains_what_is_wrong(mapping: MappingApi, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"id\n{SAP}\n")
    files = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.parquet")]
    code, output = run("crosswalk", "--from", "isin", "--to", "figi", *files)
    assert (code, "no column isin" in output) == (2, True)
    code, output = run("crosswalk", "--from", "isin", "--to", "figi", "--input", "missing.csv", *files[2:])
    assert (code, "missing.csv" in output) == (2, True)


def rows(query: str) -> list[tuple[Any, ...]]:
    found = Lake.open().sql(query)
    assert found is not None
    return found.fetchall()


def test_macros_answer_in_sql(mapping: MappingApi) -> None:
    both = sorted((figi(mapping, IBM, mic), "ambiguous") for mic in ("XNYS", "XETR"))
    assert rows(f"SELECT answer, status FROM reference.resolve('{IBM}', target := 'figi') ORDER BY 1") == both
    one = [(figi(mapping, IBM, "XNYS"), "found")]
    assert rows(f"SELECT answer, status FROM reference.resolve('{IBM}', mic := 'XNYS', target := 'figi')") == one
    assert rows("SELECT scheme, answer FROM reference.resolve('XETR/SAP') ORDER BY 1") == [
        ("figi", figi(mapping, SAP, "XETR")),
        ("isin", SAP),
    ]
    walk = f"FROM reference.crosswalk(['{SAP}', '{IBM}', 'US0378331005'], 'isin', 'figi') ORDER BY position"
    assert rows(f"SELECT value, answer, status {walk}") == [
        (SAP, figi(mapping, SAP, "XETR"), "found"),
        (IBM, None, "ambiguous"),
        ("US0378331005", None, "none"),
    ]


@pytest.mark.parametrize(("text", "why"), [("US4592001015", "check digit 4"), ("IBM", "name its market by --mic")])
def test_python_raises_what_is_no_identifier(own_environment: None, text: str, why: str) -> None:
    with pytest.raises(InvalidIdentifier, match=why):
        Lake.open().resolve(text, on=date(2024, 1, 2))


@pytest.mark.skipif(not GLEIF.exists(), reason="needs ../shared/data/reference")
def test_an_isin_leads_to_its_issuer(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sample answers of GLEIF's API, which are of days long before now."""
    monkeypatch.setenv("LAKEHOUSE_GLEIF_API_URL", str(GLEIF))
    take_publications("gleif")
    assert run("resolve", PUMA, "--to", "lei") == (0, f"{PUMA_SE}\n")
    code, output = run("resolve", PUMA_SE)
    assert (code, PUMA in output) in ((0, True), (3, True))
    _, output = run("resolve", PUMA, "--to", "lei", "--explain")
    assert f"isin {PUMA} -> lei {PUMA_SE}: gleif, " in " ".join(output.split())
    walked = Lake.open().crosswalk(pl.DataFrame({"isin": [PUMA, "DE0005190003"]}), "isin", ["lei"])
    assert walked["status"].to_list() == ["found", "none"]


def test_an_entity_leads_to_its_successors(
    own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its status says; one that isn't in the store is an answer too, and a cycle leads nowhere."""
    start = datetime(2024, 10, 28, tzinfo=UTC)
    publisher = Gleif(tmp_path / "gleif")
    monkeypatch.setenv("LAKEHOUSE_GLEIF_URL", str(tmp_path / "gleif"))
    following = {1: 2, 2: 3, 4: 9, 5: 6, 6: 5}
    for number in range(1, 7):
        merged = {}
        if number in following:
            merged = {"Entity__SuccessorEntity__1__SuccessorLEI": lei_of(following[number])}
        publisher.put_entity(number, f"Company {number}", start, **merged)
    publisher.tick(start)
    publisher.publish_full(start)
    take_publications("gleif")
    assert run("resolve", lei_of(1), "--to", "lei") == (0, f"{lei_of(3)}\n")
    assert run("resolve", lei_of(3), "--to", "lei") == (0, f"{lei_of(3)}\n")
    assert run("resolve", lei_of(4), "--to", "lei") == (0, f"{lei_of(9)}\n")
    assert run("resolve", lei_of(5), "--to", "lei")[0] == 4
    assert run("resolve", lei_of(8), "--to", "lei")[0] == 4
    assert run("resolve", lei_of(1), "--to", "lei", "--known", "2020-01-01")[0] == 4
    _, output = run("resolve", lei_of(1), "--to", "lei", "--explain")
    assert "rule: its last successor, or itself" in " ".join(output.split())
    assert f"lei {lei_of(1)} -> lei {lei_of(3)}: gleif, " in " ".join(output.split())
