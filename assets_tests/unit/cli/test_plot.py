"""Charts: what is said about the prices, and whether what is drawn stands where it should."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lakehouse.catalog import source_named
from lakehouse.cli.plot import default_name, draw, grouped, write
from lakehouse.domains.market.bars.chart import Chart, price

# Easter 2024: a holiday before and after the weekend, and clocks that change in it.
SESSIONS = [date(2024, 3, 26), date(2024, 3, 27), date(2024, 3, 28), date(2024, 4, 2), date(2024, 4, 3)]
ABOVE, BELOW, SAME = "#0072b2", "#d55e00", "#555555"


def daily_row(session: date, prices: tuple[float, float, float, float], **others: Any) -> dict[str, Any]:
    """A row of daily_bars; `prices` are open, high, low, close."""
    row = {"instrument_id": "DE0005190003", "symbol": "BMW", "name": "BAY.MOTOREN   WERKE", "currency": "EUR"}
    row |= {"session": session, **dict(zip(("open", "high", "low", "close"), prices, strict=True)), "volume": 1000}
    return row | {"prev_session": None, "prev_close": None, "adjusted_as_of": None, "is_complete": True} | others


def daily_chart(rows: list[dict[str, Any]], sessions: list[date] | None = None, **others: Any) -> Chart:
    frame = pl.DataFrame(rows, schema_overrides={"adjusted_as_of": pl.Date, "prev_close": pl.Float64})
    return Chart(source_named("xetra"), sessions or [row["session"] for row in rows], frame, **others)


def minute_chart(
    minutes: list[int], session: date = SESSIONS[0], opens: str = "08:00", ends: str = "16:40", **others: Any
) -> Chart:
    """A session with a bar at each of `minutes` after 08:00 UTC: the price falls, rises, and stands in turn."""
    start, bars = datetime(session.year, session.month, session.day, 8, tzinfo=UTC), []
    for turn, minute in enumerate(minutes):
        at, close = start + timedelta(minutes=minute), 80 + (-0.5, 0.5, 0.0)[turn % 3]
        bar = {"interval": "1min", "start_at": at, "end_at": at + timedelta(minutes=1), "open": 80.0, "close": close}
        bars.append(bar | {"high": max(80.0, close) + 0.25, "low": min(80.0, close) - 0.25, "volume": 100 + turn})
    row = daily_row(session, (80.0, 80.75, 79.25, bars[-1]["close"]), **others)
    hours = tuple(datetime.fromisoformat(f"{session}T{clock}+00:00") for clock in (opens, ends))
    return daily_chart([row], bars=pl.DataFrame(bars), hours=hours)


def panels(figure: Figure) -> tuple[Axes, Axes]:
    """The axes of the prices and of the volumes."""
    above, below = figure.axes
    return above, below


def bodies(axes: Axes) -> PolyCollection:
    (found,) = (made for made in axes.collections if isinstance(made, PolyCollection))
    return found


def box(collection: PolyCollection, index: int) -> tuple[float, float, float, float]:
    """Left, right, low and high of a body."""
    corners = collection.get_paths()[index].vertices
    return corners[:, 0].min(), corners[:, 0].max(), corners[:, 1].min(), corners[:, 1].max()


def tick_labels(axes: Axes) -> dict[float, str]:
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    labels = {float(tick.get_loc()): tick.label1.get_text() for tick in axes.xaxis.get_major_ticks()}
    return {where: text for where, text in labels.items() if low <= where <= high}


@given(st.floats(0.000001, 1e7))
def test_a_price_is_written_with_all_that_it_has(value: float) -> None:
    text = price(value)
    assert float(text.replace(",", "")) == round(value, 6)
    decimals = text.partition(".")[2]
    assert len(decimals) == 2 or (2 < len(decimals) <= 6 and decimals[-1] != "0")


def test_prices_as_people_write_them() -> None:
    assert [price(value) for value in (81.3, 116.349, 0.0001, 504000, -1.5)] == [
        "81.30",
        "116.349",
        "0.0001",
        "504,000.00",
        "-1.50",
    ]


def test_title_and_figures_of_a_range() -> None:
    rows = [
        daily_row(SESSIONS[0], (10.0, 12.0, 9.5, 11.0), prev_session=date(2024, 3, 25), prev_close=8.0),
        daily_row(SESSIONS[1], (11.0, 14.5, 10.0, 12.0), volume=2500),
    ]
    chart = daily_chart(rows)
    assert chart.title == "BMW · BAY.MOTOREN WERKE · Xetra (XETR) · 2024-03-26 to 2024-03-27 · EUR"
    assert chart.figures == {
        "Open": "10.00",
        "High": "14.50",
        "Low": "9.50",
        "Close": "12.00",
        "Volume": "3,500",
        "Change": "+50.00% since the close of 2024-03-25",
    }
    assert chart.notes == ["daily bars", "prices as traded"]


def test_without_a_close_before_it_the_change_is_since_the_open() -> None:
    assert (
        daily_chart([daily_row(SESSIONS[0], (10.0, 12.0, 9.0, 9.0))]).figures["Change"]
        == "-10.00% since the first open"
    )
    spread = daily_row(SESSIONS[0], (-2.0, 1.0, -3.0, 0.5), prev_session=date(2024, 3, 25), prev_close=-1.0)
    assert daily_chart([spread]).figures["Change"] == "+1.5 since the close of 2024-03-25"


@pytest.mark.parametrize(
    ("bases", "words"),
    [
        ([None, None], "prices as traded"),
        ([date(2024, 5, 1)] * 2, "prices came adjusted for splits and dividends as of 2024-05-01"),
        ([date(2024, 5, 1), None], "some prices came adjusted for splits and dividends as of 2024-05-01"),
        (
            [date(2024, 5, 2), date(2024, 5, 1)],
            "prices came adjusted for splits and dividends as of 2024-05-01 to 2024-05-02",
        ),
    ],
)
def test_it_says_on_which_basis_prices_came(bases: list[date | None], words: str) -> None:
    rows = [
        daily_row(session, (10.0, 12.0, 9.0, 11.0), adjusted_as_of=basis)
        for session, basis in zip(SESSIONS, bases, strict=False)
    ]
    assert words in daily_chart(rows).notes


def test_it_says_what_is_missing_and_as_of_when() -> None:
    rows = [daily_row(session, (10.0, 12.0, 9.0, 11.0), is_complete=session.day != 28) for session in SESSIONS[:3]]
    chart = daily_chart(rows, SESSIONS, as_of=datetime.fromisoformat("2024-04-05T12:00:00+02:00"))
    notes = ["no daily bar in 2 of 5 sessions", "objects missing for 2024-03-28", "as known at 2024-04-05 10:00:00 UTC"]
    assert chart.notes[2:] == notes
    assert "objects missing for 3 sessions" in daily_chart([row | {"is_complete": False} for row in rows]).notes
    assert "bars end early in 2024-03-26" in daily_chart([rows[0] | {"is_complete": None}, *rows[1:]]).notes


def action(session: date, kind: str, value: float) -> dict[str, Any]:
    name = {"split": "split_coefficient", "dividend": "dividend_amount"}[kind]
    return {"ex_date": session, "kind": kind, "split_coefficient": None, "dividend_amount": None, name: value}


def test_splits_and_dividends_are_marked_at_the_first_session_from_their_ex_date_on() -> None:
    sessions = SESSIONS[:5]
    holiday = sessions[2] + timedelta(days=1)
    assert holiday not in sessions
    actions = [action(sessions[1], "dividend", 0.24), action(sessions[1], "split", 0.1), action(holiday, "split", 1.5)]
    chart = daily_chart([daily_row(day, (10.0, 12.0, 9.0, 11.0)) for day in sessions], actions=actions)
    above, _ = panels(draw(chart))
    marks = {text.get_position()[0]: text.get_text() for text in above.texts if text.get_text() in ("D", "S", "DS")}
    assert marks == {1: "DS", 3: "S"}
    assert [f"split 1:10 on {sessions[1]}", f"split 3:2 on {holiday}", f"dividend 0.24 on {sessions[1]}"] == (
        chart.notes[2:]
    )
    many = [action(day, "dividend", 1.0) for day in sessions]
    assert daily_chart([daily_row(sessions[0], (10.0, 12.0, 9.0, 11.0))], actions=many).notes[2:] == ["5 dividends"]


def test_daily_candles_stand_side_by_side_and_leave_room_for_a_missing_session() -> None:
    prices = [(10.0, 12.0, 9.0, 11.0), (11.0, 11.5, 8.0, 8.5), (8.5, 9.0, 8.25, 8.5), (9.0, 10.0, 9.0, 10.0)]
    kept = [SESSIONS[0], SESSIONS[1], SESSIONS[3], SESSIONS[4]]
    rows = [
        daily_row(session, four, volume=index * 10 + 10)
        for index, (session, four) in enumerate(zip(kept, prices, strict=True))
    ]
    above, below = panels(draw(daily_chart(rows, SESSIONS)))

    places = [0, 1, 3, 4]
    for index, (place, (open_, _, _, close)) in enumerate(zip(places, prices, strict=True)):
        left, right, low, high = box(bodies(above), index)
        assert ((left + right) / 2, low, high) == pytest.approx((place, min(open_, close), max(open_, close)))
        assert right - left < 1
        assert box(bodies(below), index) == pytest.approx((left, right, 0, index * 10 + 10))
    (wicks,) = (made for made in above.collections if isinstance(made, LineCollection))
    assert [segment.tolist() for segment in wicks.get_segments()] == [
        [[place, low], [place, high]] for place, (_, high, low, _) in zip(places, prices, strict=True)
    ]
    assert [to_hex(colour) for colour in wicks.get_colors()] == [ABOVE, BELOW, SAME, ABOVE]
    assert [to_hex(colour) for colour in bodies(above).get_facecolor()] == ["#ffffff", BELOW, SAME, "#ffffff"]
    assert list(tick_labels(below).values()) == [
        "Tue 26 Mar\n2024",
        "Wed 27 Mar",
        "Thu 28 Mar",
        "Tue 02 Apr",
        "Wed 03 Apr",
    ]
    assert above.get_ylim()[0] < 8.0
    assert above.get_ylim()[1] > 12.0


@pytest.mark.parametrize("count", [1, 14, 130, 131, 700, 2600])
def test_any_number_of_sessions_has_labels_that_fit(count: int) -> None:
    weekdays = [
        day for day in (date(2015, 1, 1) + timedelta(days=number) for number in range(3700)) if day.weekday() < 5
    ]
    sessions, dice = weekdays[:count], random.Random(1)
    rows = [daily_row(session, (dice.uniform(20, 30), 31.0, 19.0, dice.uniform(20, 30))) for session in sessions]
    _, below = panels(draw(daily_chart(rows)))
    labels = tick_labels(below)
    assert min(count, 6) <= len(labels) <= 13
    assert next(iter(labels.values())).endswith("2015")
    for place, text in labels.items():
        session = sessions[int(place)]
        assert f"{session:%b}" in text
        if count <= 130:
            assert f"{session:%d %b}" in text
        else:
            assert session.month != sessions[int(place) - 1].month or place == 0


@pytest.mark.parametrize(("count", "hollow"), [(14, True), (150, True), (400, False)])
def test_rising_bodies_are_hollow_where_there_is_room(count: int, hollow: bool) -> None:
    sessions = [date(2020, 1, 1) + timedelta(days=number) for number in range(count)]
    above, _ = panels(draw(daily_chart([daily_row(session, (10.0, 12.0, 9.0, 11.0)) for session in sessions])))
    assert {to_hex(colour) for colour in bodies(above).get_facecolor()} == {"#ffffff" if hollow else ABOVE}
    (patch,) = above.get_legend().get_patches()
    assert to_hex(patch.get_facecolor()) == ("#ffffff" if hollow else ABOVE)


@pytest.mark.parametrize(("session", "label"), [(SESSIONS[2], "11:00"), (SESSIONS[3], "12:00")])
def test_minutes_stand_on_the_exchange_clock(session: date, label: str) -> None:
    """10:00 UTC is 11:00 in Frankfurt before the clocks change, and 12:00 after."""
    _, below = panels(draw(minute_chart(list(range(520)), session)))
    ten = (datetime(session.year, session.month, session.day, 10) - datetime(1970, 1, 1)) / timedelta(days=1)
    (found,) = (text for place, text in tick_labels(below).items() if abs(place - ten) < 1e-6)
    assert found == label


def test_a_minute_candle_covers_its_minute_and_no_other() -> None:
    minutes = [minute for minute in range(520) if minute % 7]
    above, _ = panels(draw(minute_chart(minutes)))
    first = (datetime(2024, 3, 26, 8) - datetime(1970, 1, 1)) / timedelta(minutes=1)
    found = bodies(above)
    assert len(found.get_paths()) == len(minutes)
    for index, minute in enumerate(minutes):
        left, right, low, high = box(found, index)
        assert first + minute < left * 1440 < right * 1440 < first + minute + 1
        assert (low, high) == [(79.5, 80.0), (80.0, 80.5), (80.0, 80.0)][index % 3]
    assert [to_hex(colour) for colour in found.get_facecolor()[:3]] == [BELOW, ABOVE, SAME]


def test_few_minutes_are_wide_enough_to_be_seen() -> None:
    above, _ = panels(draw(minute_chart([5, 130, 400, 519])))
    left, right, _, _ = box(bodies(above), 0)
    low, high = above.get_xlim()
    assert (right - left) / (high - low) > 1 / 200


def test_what_is_outside_of_regular_hours_is_shaded() -> None:
    figure = draw(minute_chart(list(range(520)), opens="09:30", ends="16:00"))
    start = datetime(2024, 3, 26) - datetime(1970, 1, 1)
    for axes in panels(figure):
        low, high = axes.get_xlim()
        spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
        opens, ends = (
            (start + timedelta(hours=9.5)) / timedelta(days=1),
            (start + timedelta(hours=16)) / timedelta(days=1),
        )
        assert spans == [pytest.approx((low, opens)), pytest.approx((ends, high))]
    assert {"pre", "post"} <= {text.get_text() for text in panels(figure)[0].texts}
    whole = panels(draw(minute_chart(list(range(520)))))[0]
    assert not whole.patches


@pytest.mark.parametrize(("before", "drawn"), [(79.9, True), (81.5, True), (240.0, False), (None, False)])
def test_the_previous_close_is_a_line_unless_it_is_far_away(before: float | None, drawn: bool) -> None:
    others = {"prev_close": before, "prev_session": None if before is None else date(2024, 3, 25)}
    above, _ = panels(draw(minute_chart(list(range(520)), **others)))
    assert [line.get_ydata()[0] for line in above.lines] == ([before] if drawn else [])
    low, high = above.get_ylim()
    assert not drawn or low < before < high
    assert high - low < 4
    explained = [text.get_text() for text in above.get_legend().get_texts()]
    assert ("previous close" in explained) == drawn


class Page(HTMLParser):
    """What a browser would fetch, run, and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.said += [data.strip()] if data.strip() else []


@pytest.mark.parametrize("minutes", [True, False])
def test_a_page_needs_nothing_else_and_shows_names_as_they_are(tmp_path: Path, minutes: bool) -> None:
    chart = minute_chart(list(range(520)), name="</script><script>$x_1$ & Söhne</script>")
    chart = chart if minutes else replace(chart, bars=None, hours=None)
    write([chart], tmp_path / "chart.HTML")
    text = (tmp_path / "chart.HTML").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 2, "the data and the script that draws them"
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not page.fetched
    assert "url(http" not in text
    assert "@import" not in text
    assert page.said.count(chart.title) == 2, "the page's title and its heading"
    assert {*chart.figures, *chart.figures.values(), " · ".join(chart.notes)} <= set(page.said)
    write([chart], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_write__allows_its_own_script_and_style_by_their_digests_alone(tmp_path: Path) -> None:
    write([minute_chart([1, 2])], tmp_path / "chart.html")
    text = (tmp_path / "chart.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]


def test_write__makes_an_svg_with_its_texts_as_texts(tmp_path: Path) -> None:
    chart = minute_chart(list(range(520)), name="<b>$100 & Söhne</b>")
    write([chart], tmp_path / "chart.SVG")
    text = (tmp_path / "chart.SVG").read_text(encoding="utf-8")
    found = ElementTree.fromstring(text)
    assert found.tag == "{http://www.w3.org/2000/svg}svg"
    said = {"".join(each.itertext()).strip() for each in found.iter("{http://www.w3.org/2000/svg}text")}
    assert chart.title in said
    write([chart], tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("prices", [(10.0, 1000.0), (100.0, 104.0), (0.002, 0.5)])
def test_draw__labels_a_logarithmic_axis_at_round_prices_that_keep_apart(prices: tuple[float, float]) -> None:
    low, high = prices
    rows = [daily_row(SESSIONS[0], (low, high, low, high)), daily_row(SESSIONS[1], (high, high, low, low))]
    figure = draw(daily_chart(rows), is_log=True)
    above, _ = panels(figure)
    figure.draw_without_rendering()
    assert above.get_yscale() == "log"
    bottom, top = above.get_ylim()
    ticks = [tick for tick in above.yaxis.get_major_ticks() if bottom <= tick.get_loc() <= top]
    assert len([tick for tick in ticks if tick.label1.get_text() or tick.label2.get_text()]) >= 3
    heights = sorted(above.transData.transform((0, tick.get_loc()))[1] for tick in ticks)
    assert min(after - before for before, after in pairwise(heights)) > 12, "pixels between labels"


def test_draw__has_no_logarithmic_axis_for_prices_of_zero_or_less() -> None:
    spread = daily_row(SESSIONS[0], (-2.0, 1.0, -3.0, 0.5))
    above, _ = panels(draw(daily_chart([spread]), is_log=True))
    assert above.get_yscale() == "linear"


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60, unique=True), st.integers(1, 200))
def test_grouped__keeps_every_place_in_order_and_the_middles_apart(places: list[int], least: int) -> None:
    groups = grouped(sorted(places), least)
    assert [place for group in groups for place in group] == sorted(places)
    middles = [(group[0] + group[-1]) / 2 for group in groups]
    assert all(after - before >= least for before, after in pairwise(middles))


def test_draw__counts_marks_that_would_overlap() -> None:
    sessions = [date(2015, 1, 1) + timedelta(days=number) for number in range(1000)]
    rows = [daily_row(session, (10.0, 12.0, 9.0, 11.0)) for session in sessions]
    actions = [action(sessions[place], "dividend", 1.0) for place in (100, 103, 500)]
    above, _ = panels(draw(daily_chart(rows, actions=actions)))
    assert {text.get_position()[0]: text.get_text() for text in above.texts if text.get_text() in ("2", "D")} == {
        101.5: "2",
        500: "D",
    }


def test_a_picture_is_a_png_with_the_title_in_it(tmp_path: Path) -> None:
    chart = minute_chart(list(range(520)), name="$100 & co_1^2$")
    write([chart], tmp_path / "chart.png")
    content = (tmp_path / "chart.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(content[16:20]), int.from_bytes(content[20:24])) == (1690, 975)
    texts = [text.get_text() for text in draw(chart).texts]
    assert chart.title in texts
    assert "prices as traded" in texts[2]


def test_a_session_of_one_bar_is_drawn() -> None:
    above, below = panels(draw(minute_chart([42])))
    assert len(bodies(above).get_paths()) == len(bodies(below).get_paths()) == 1
    low, high = above.get_ylim()
    assert low < 79.25 < 80.25 < high


def test_names_of_files() -> None:
    assert default_name("BMW", SESSIONS[0], SESSIONS[1]) == "BMW_2024-03-26_2024-03-27.png"
    assert default_name("../EUR/USD ", SESSIONS[0], SESSIONS[0]) == ".._EUR_USD__2024-03-26_2024-03-26.png"


def test_adjusted_volumes_beyond_64_bits_are_left_out() -> None:
    """They are NULL, and a chart of them raised."""
    rows = [daily_row(day, (80.0, 80.5, 79.5, 80.25), volume=None if day == SESSIONS[0] else 5) for day in SESSIONS]
    chart = daily_chart(rows)
    assert chart.figures["Volume"] == "20"
    draw(chart)
