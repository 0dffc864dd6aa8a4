"""Publication by difference: what is built follows what changed, and the marts are those of a full build."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from assets_tests.support.dbt_warehouse import (
    FILES,
    VENDOR,
    Action,
    Bar,
    Key,
    Place,
    Window,
    append_windows,
    write,
    write_actions,
    write_official,
    write_windows,
)
from assets_tests.support.duckdbs import started
from assets_tests.support.reference_lake import take
from assets_tests.support.soak import ONLY_IN_A_SOAK, soak_count
from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.catalog import Descriptions
from lakehouse.derive.held_back import hold_back, holds
from lakehouse.domains.market.model_reach import REFERENCE_DATA
from lakehouse.settings import Settings, settings
from lakehouse.simulators.gleif import Gleif
from lakehouse.simulators.market_register import MarketRegister
from lakehouse.warehouse import build as publishing
from lakehouse.warehouse import last_descriptions, recipe, releases
from lakehouse.warehouse.dbt import Event, build_path, run_dbt
from lakehouse.warehouse.parts import part_of
from lakehouse.warehouse.publish import differing_marts, publish

DAYS = [date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9, 10, 11, 12, 16)]
MARKET = part_of("market")
CHANGED_BARS = {"fct_daily_bar", "average_range", "returns", "daily_summary", "daily_movers", "most_traded_by_value"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all tests, since dbt parses its project again for every other."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(folder: Path, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home, with an empty lake and nothing published."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(folder))
    settings.cache_clear()
    for name in ("lake", "releases"):
        shutil.rmtree(folder / name, ignore_errors=True)
    settings().warehouse.unlink(missing_ok=True)


@dataclass
class Build:
    """What dbt built in a publication: the models, and the groups that it replaced of each."""

    models: set[str] = field(default_factory=set)
    replaced: dict[str, set[tuple]] = field(default_factory=dict)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Build]:
    """The runs of dbt that publications made, in their order."""
    found: list[Build] = []

    def watched(arguments: Sequence[str], config: Settings, on_event: object = None) -> list[str]:
        build = Build()

        def note(event: Event) -> None:
            if event.info.name == "LogModelResult":
                build.models.add(event.data.node_info.node_name)

        failures = run_dbt(arguments, config, note)
        with duckdb.connect(str(build_path(config))) as file:
            noted = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'reading'"
            for (name,) in file.execute(noted).fetchall():
                if name in build.models:
                    build.replaced[name] = set(file.execute(f"FROM reading.{name}").fetchall())
        found.append(build)
        return failures

    monkeypatch.setattr(publishing, "run_dbt", watched)
    return found


def series(days: Collection[date] = DAYS[:8], **symbols: float) -> dict[Key, Bar]:
    """Daily bars of some instruments, each from its price on."""
    return {
        Key(name, day, "USD"): Bar(price + 0.1 * place, symbol=name)
        for name, price in symbols.items()
        for place, day in enumerate(days)
    }


def test_publish__imports_no_dbt_where_nothing_is_new() -> None:
    write(series(A=10, B=20))
    publish(settings())
    published = settings().warehouse.stat()
    # Another commit of the same rows.
    write(series(A=10, B=20))
    program = """if True:
        import sys
        from lakehouse.settings import settings
        from lakehouse.warehouse.publish import publish
        publish(settings())
        print(sorted({"dbt", "dagster", "pandas"} & set(sys.modules)))
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
    found = settings().warehouse.stat()
    assert (found.st_ino, found.st_mtime_ns) == (published.st_ino, published.st_mtime_ns)


def test_publish__opens_the_files_of_marts_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three DuckDBs were started for each part of the models, a tenth of a second of a core, and five more to build."""
    bars = series(A=10, B=20)
    write(bars)
    publish(settings())
    opened = started(monkeypatch)
    publish(settings())
    assert len(opened) == 1  # what was published
    write(bars | {Key("A", DAYS[3], "USD"): Bar(10.35, symbol="A")})
    opened.clear()
    publish(settings())
    assert len(opened) == 4  # that, the file that is built, the same for dbt, and to settle it


def test_publish__replaces_only_the_sessions_that_a_correction_reaches(builds: list[Build]) -> None:
    bars = series(A=10, B=20)
    write(bars)
    publish(settings())
    write(bars | {Key("A", DAYS[3], "USD"): Bar(10.35, symbol="A")})
    publish(settings())
    found = builds[-1]
    assert found.models == CHANGED_BARS
    # The next session's change is from this close.
    both = {(FILES, DAYS[3]), (FILES, DAYS[4])}
    assert {name: found.replaced[name] for name in ("fct_daily_bar", "returns", "daily_summary", "daily_movers")} == (
        dict.fromkeys(("fct_daily_bar", "returns", "daily_summary", "daily_movers"), both)
    )
    assert found.replaced["most_traded_by_value"] == {(FILES, DAYS[3])}
    assert differing_marts(settings()) == []


def test_publish__builds_versions_where_an_instrument_is_renamed(builds: list[Build]) -> None:
    bars = series(A=10, B=20)
    write(bars)
    publish(settings())
    write(bars | {Key("A", day, "USD"): bars[Key("A", day, "USD")]._replace(symbol="C") for day in DAYS[6:8]})
    publish(settings())
    assert builds[-1].models == CHANGED_BARS | {
        "bridge_instrument_identifier",
        "dim_instrument",
        "fct_corporate_action",
    }
    assert builds[-1].replaced["dim_instrument"] == {(FILES, "A", "USD")}
    assert builds[-1].replaced["fct_daily_bar"] == {(FILES, DAYS[6]), (FILES, DAYS[7])}
    assert differing_marts(settings()) == []


def test_publish__builds_the_marts_of_feeds_by_their_days(builds: list[Build]) -> None:
    noon = datetime(2024, 1, 2, 12, tzinfo=UTC)
    windows = {Place("A", noon + timedelta(days=day)): Window() for day in range(3)}
    write_windows(windows)
    publish(settings())
    write_windows(windows | {Place("A", noon + timedelta(days=1)): Window(last=11.0)})
    publish(settings())
    assert builds[-1].replaced["fct_quote_window"] == {("iex", date(2024, 1, 3))}
    assert not builds[-1].models & CHANGED_BARS
    # The running day isn't published, whatever comes in.
    append_windows({Place("A", datetime.now(UTC) + timedelta(minutes=1)): Window()})
    publish(settings())
    assert len(builds) == 2


@pytest.mark.soak
@pytest.mark.parametrize("changed", ["recipe", pytest.param("no record", marks=ONLY_IN_A_SOAK)])
def test_publish__builds_everything_of_another_recipe(
    builds: list[Build], changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(series(A=10))
    publish(settings())
    if changed == "recipe":
        monkeypatch.setattr(recipe, "code_digest", lambda: "another")
    else:
        settings().warehouse.chmod(0o644)
        with duckdb.connect(str(settings().warehouse)) as file:
            file.execute("DROP SCHEMA publication CASCADE")
    publish(settings())
    assert builds[-1].models > CHANGED_BARS | {"dim_instrument", "dim_session", "fct_quote_window"}
    assert builds[-1].replaced == {}


def test_publish__replaces_only_the_sessions_that_a_corporate_action_reaches(builds: list[Build]) -> None:
    # The vendor adjusted the bars of one instrument as of a later day.
    adjusted = {key: bar._replace(adjusted_as_of=DAYS[7]) for key, bar in series(B=20).items()}
    write(series(A=10) | adjusted, VENDOR)
    write(series(US0378331005=30))
    write_official({Key("A", day, "USD"): 10.0 for day in DAYS[:8]})
    # Each has an earlier dividend, so that their returns count dividends already.
    actions = [Action("A", DAYS[1], "dividend", 0.1), Action("B", DAYS[1], "dividend", 0.1)]
    write_actions(actions)
    publish(settings())
    actions.append(Action("A", DAYS[5], "dividend", 0.5))
    write_actions(actions)
    publish(settings())
    assert builds[-1].models == CHANGED_BARS | {"fct_corporate_action"}
    assert builds[-1].replaced["returns"] == {(VENDOR, DAYS[5])}
    assert builds[-1].replaced["fct_daily_bar"] == set()
    assert builds[-1].replaced["daily_summary"] == set()
    # The close against which it is weighed is corrected.
    write_official({Key("A", day, "USD"): 9.0 if day == DAYS[4] else 10.0 for day in DAYS[:8]})
    publish(settings())
    assert builds[-1].replaced["returns"] == {(VENDOR, DAYS[5])}
    assert builds[-1].replaced["fct_daily_bar"] == {(VENDOR, DAYS[4])}
    # A split of the adjusted instrument changes its closes as traded before the ex-date, and the factor of that day.
    actions.append(Action("B", DAYS[3], "split", 2.0))
    write_actions(actions)
    publish(settings())
    assert builds[-1].replaced["fct_daily_bar"] == {(VENDOR, day) for day in DAYS[:4]}
    # A split that one source announces counts for another source's instrument, too.
    actions.append(Action("US0378331005", DAYS[6], "split", 2.0))
    write_actions(actions)
    publish(settings())
    assert builds[-1].replaced["fct_daily_bar"] == {(FILES, DAYS[6])}
    assert differing_marts(settings(), MARKET) == []


def test_publish__versions_an_instrument_of_corporate_actions_alone(builds: list[Build]) -> None:
    write(series(A=10), VENDOR)
    write_actions([Action("A", DAYS[1], "dividend", 0.1), Action("Z", DAYS[4], "dividend", 0.1)])
    publish(settings())
    earlier = Action("Z", DAYS[2], "dividend", 0.1)
    for actions, version in (
        ([earlier], [("Z", DAYS[2])]),
        ([earlier._replace(symbol="Y")], [("Y", DAYS[2])]),
        ([], []),
    ):
        write_actions(actions)
        publish(settings())
        assert builds[-1].replaced["dim_instrument"] == {(VENDOR, "Z", "USD")}
        assert builds[-1].replaced["fct_daily_bar"] == set()
        with duckdb.connect(str(settings().warehouse), read_only=True) as file:
            query = "SELECT symbol, valid_from FROM marts.dim_instrument WHERE instrument_id = 'Z'"
            assert file.execute(query).fetchall() == version
    assert differing_marts(settings(), MARKET) == []


APPLE = "US0378331005"


class Reference:
    """A register of markets, and a publisher of legal entities and their ISINs, each publication on the next day."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.register, self.gleif = MarketRegister(folder / "mic"), Gleif(folder / "gleif")
        self.mappings = Gleif(folder / "mappings")
        self.now = datetime(2024, 6, 3, tzinfo=UTC)
        self.register.add("XETR", date(2005, 5, 23))
        for name, place in {"MIC": "mic", "GLEIF": "gleif", "GLEIF_MAPPINGS": "mappings"}.items():
            monkeypatch.setenv(f"LAKEHOUSE_{name}_URL", str(folder / place))
            (folder / place).mkdir()
        settings.cache_clear()

    def publish_entity(self, name: str, isins: Collection[str]) -> None:
        """Publishes and loads an entity with its name, and the ISINs that it issued."""
        lei = self.gleif.put_entity(1, name, datetime(2014, 1, 1, tzinfo=UTC))
        self.gleif.tick(self.now)
        self.gleif.publish_full(self.now)
        self.mappings.pairs["isin"] = {(isin, lei) for isin in isins}
        self.mappings.publish_pairs("isin", self.now)
        self.now += timedelta(days=1)
        take("gleif")

    def publish_market(self, name: str) -> None:
        """Publishes and loads the exchange's market with its name."""
        self.register.change("XETR", MARKET_NAME_INSTITUTION_DESCRIPTION=name)
        self.register.publish(self.now.date())
        self.register.write(self.now.date())
        self.now += timedelta(days=1)
        take("mic")


def test_publish__builds_what_shows_reference_data(
    builds: list[Build], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, shows = Reference(tmp_path, monkeypatch), set(REFERENCE_DATA.models)
    bars = series(A=10, US0378331005=20)
    write(bars)
    publish(settings())
    reference.publish_entity("APPLE INC.", [APPLE])
    reference.publish_market("Xetra")
    publish(settings())
    assert builds[-1].models == shows
    assert builds[-1].replaced == {"dim_instrument": {(FILES, APPLE, "USD")}}
    with duckdb.connect(str(settings().warehouse), read_only=True) as file:
        assert file.execute("SELECT issuer_name FROM marts.dim_instrument ORDER BY ALL").fetchall() == [
            ("APPLE INC.",),
            (None,),
        ]
    assert differing_marts(settings()) == []
    # With a corrected session beside it, still only what each of them reaches is replaced.
    write(bars | {Key("A", DAYS[3], "USD"): Bar(10.35, symbol="A")})
    reference.publish_entity("Apple Inc.", [])
    publish(settings())
    assert builds[-1].models == CHANGED_BARS | shows | {"fct_corporate_action"}
    assert builds[-1].replaced["dim_instrument"] == {(FILES, APPLE, "USD")}
    assert builds[-1].replaced["fct_daily_bar"] == {(FILES, DAYS[3]), (FILES, DAYS[4])}
    assert differing_marts(settings()) == []


@dataclass
class State:
    """What is stored in a lake of two sources and a feed."""

    bars: dict[str, dict[Key, Bar]]
    official: dict[Key, float]
    actions: dict[tuple[str, date, str], Action]
    windows: dict[Place, Window]

    def store(self) -> None:
        for source, bars in self.bars.items():
            write(bars, source)
        write_official(self.official)
        write_actions(list(self.actions.values()))
        write_windows(self.windows)


class History:
    """A lake to which things happen in a random order."""

    def __init__(self, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.monkeypatch = monkeypatch
        self.reference = Reference(folder, monkeypatch)
        self.now = State(
            {source: series(DAYS[: self.random.randint(2, 8)], A=10, US0378331005=20) for source in (FILES, VENDOR)},
            {Key("A", day, "USD"): 10.0 for day in DAYS[:4]},
            {("A", DAYS[2], "dividend"): Action("A", DAYS[2], "dividend", 0.5)},
            {},
        )
        self.released: State | None = None
        self.now.store()

    def step(self) -> str:
        """Something happens, and is stored; returns what."""
        kinds = ["correct", "correct", "late", "late", "withdraw", "rename", "official", "dividend", "split", "quote"]
        name: str = self.random.choice([*kinds, "cancel", "hold", "release", "remove", "entity", "market"])
        getattr(self, name)()
        if name != "release":
            self.now.store()
        return name

    @property
    def source(self) -> str:
        return self.random.choice([FILES, VENDOR])

    def key(self, source: str) -> Key:
        """A bar that is stored, if there is one."""
        return self.random.choice(sorted(self.now.bars[source]) or [Key("A", DAYS[0], "USD")])

    def correct(self) -> None:
        source = self.source
        key = self.key(source)
        price = self.random.choice([10.5, 11.0, 40.0])
        volume, basis = self.random.choice([100, 200]), self.random.choice([None, *DAYS])
        self.now.bars[source][key] = Bar(price, symbol=key.instrument_id, volume=volume, adjusted_as_of=basis)

    def late(self) -> None:
        key = Key(self.random.choice(["A", "B", "US0378331005"]), self.random.choice(DAYS), "USD")
        self.now.bars[self.source][key] = Bar(self.random.choice([5.0, 10.0, 20.0]), symbol=key.instrument_id)

    def withdraw(self) -> None:
        source = self.source
        self.now.bars[source].pop(self.key(source), None)

    def rename(self) -> None:
        source = self.source
        self.now.bars[source][self.key(source)] = Bar(10.0, symbol=self.random.choice(["A", "B", "C"]))

    def official(self) -> None:
        key = Key(self.random.choice(["A", "US0378331005"]), self.random.choice(DAYS), "USD")
        self.now.official[key] = self.random.choice([9.0, 10.0])

    def dividend(self) -> None:
        """A dividend is announced, or its amount is corrected."""
        self._act("dividend", self.random.choice([0.5, 0.25]))

    def split(self) -> None:
        self._act("split", self.random.choice([2.0, 0.5]))

    def _act(self, kind: str, value: float) -> None:
        # One of the instruments has no bars.
        name, day = self.random.choice(["A", "B", "US0378331005", "Z"]), self.random.choice(DAYS)
        self.now.actions[name, day, kind] = Action(name, day, kind, value)

    def cancel(self) -> None:
        """A corporate action is cancelled."""
        if self.now.actions:
            del self.now.actions[self.random.choice(sorted(self.now.actions))]

    def quote(self) -> None:
        place = Place("A", datetime(2024, 1, self.random.randint(1, 5), 12, tzinfo=UTC))
        self.now.windows[place] = Window(last=self.random.choice([10.0, 11.0]))

    def hold(self) -> None:
        """A blocking check of a source fails, or passes again."""
        passed = bool(holds(Lake.present(), FILES))
        verdict = {("daily_bars", "enough"): (passed, "too few")}
        hold_back(Lake.present(), FILES, verdict, None, lambda check, scope: (passed, "too few"))

    def entity(self) -> None:
        """An entity is renamed, or has issued an ISIN or not."""
        self.reference.publish_entity(self.random.choice(["One", "Other"]), self.random.choice([[], [APPLE]]))

    def market(self) -> None:
        self.reference.publish_market(self.random.choice(["Xetra", "XETRA"]))

    def release(self) -> None:
        """A release is created, or restored."""
        if self.released is None:
            releases.create(settings(), "r")
            self.released = deepcopy(self.now)
        else:
            releases.restore(settings(), "r")
            self.now = deepcopy(self.released)

    def remove(self) -> None:
        """The YAML of a source is removed, or comes back."""
        known = DESCRIBED()
        if VENDOR in catalog.descriptions().found:
            known = Descriptions(
                {name: found for name, found in known.found.items() if name != VENDOR}, {}, known.files
            )
        for module in (catalog, last_descriptions):
            self.monkeypatch.setattr(module, "descriptions", lambda: known)


DESCRIBED = catalog.descriptions


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(soak_count(1, 40)))
def test_publish__gives_what_a_full_build_gives(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(seed, tmp_path, monkeypatch)
    publish(settings())
    happened = []
    for _ in range(soak_count(3, 6)):
        happened.append(history.step())
        publish(settings())
        assert differing_marts(settings()) == [], happened
