"""The picture of steps shows each percentile at its place."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.components.steps_svg import steps_svg

SECONDS = st.one_of(st.just(0.0), st.floats(1e-6, 1e7))
STEPS = st.lists(
    st.tuples(st.sampled_from(["paid → booked", "<odd> & step"]), st.integers(1, 10**6), st.lists(SECONDS, min_size=5)),
    min_size=1,
    max_size=6,
).map(lambda steps: [(name, count, sorted(seconds)[:5]) for name, count, seconds in steps])


@given(STEPS)
def test_steps_svg__places_seconds_by_their_logarithm(steps: list[tuple[str, int, list[float]]]) -> None:
    root = ElementTree.fromstring(steps_svg("orders: time per step", steps))
    texts = [each.text for each in root.iter() if each.text and each.text.strip()]
    assert [f"{name} ({count:,})" for name, count, _ in steps] == [text for text in texts if text.endswith(")")][1:]

    paths = [each.get("d", "") for each in root.iter() if each.tag.endswith("path")]
    whiskers = [path for path in paths if path.count("v8") == 2]
    boxes = [path for path in paths if path.endswith("z") and "v14" in path]
    middles = [path for path in paths if path.endswith("v14")]
    assert len(whiskers) == len(boxes) == len(middles) == len(steps)
    drawn = []
    for (*_, seconds), whisker, box, middle in zip(steps, whiskers, boxes, middles, strict=True):
        first, _, last, _ = (float(x) for x in re.findall(r"[MH]([\d.]+)", whisker))
        lower, upper, _ = (float(x) for x in re.findall(r"[MH]([\d.]+)", box))
        (within,) = (float(x) for x in re.findall(r"M([\d.]+)", middle))
        drawn += zip(seconds, (first, lower, within, upper, last), strict=True)
    assert all(250 <= x <= 780 for _, x in drawn)
    # Equal ratios are equally far apart, and what took no time is not right of anything.
    for (one, x), (other, further) in pairwise(sorted(drawn)):
        assert x <= further
        assert one or x == 250
        assert other > one or further == x
    ticks = sorted(float(text) for text in texts if re.fullmatch(r"[\d.e+-]+", text))
    grid = sorted(float(path[1:].split()[0]) for path in paths if re.fullmatch(r"M[\d.]+ 34V\d+", path))
    assert len(ticks) == len(grid)
    assert (grid[0], grid[-1]) == (250, 780)
    assert all(ticks[0] * 0.999 <= seconds <= ticks[-1] * 1.001 for seconds, _ in drawn if seconds)
