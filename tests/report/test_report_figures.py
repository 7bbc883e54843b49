"""Figures are functions: the same data give the same SVG, and it says what the data say."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.report.chart import shorten
from polytask.report.figures.curves import curve_figure
from polytask.report.figures.gain import gain_figure
from polytask.report.figures.gates import gate_figure
from polytask.report.figures.impacts import impact_figure
from polytask.report.figures.pareto import Point, frontier, pareto_figure
from polytask.report.figures.sharing import picture, sharing_figure
from polytask.report.figures.spread import spread_figure
from polytask.report.folder import Run
from polytask.report.palette import HUES, SENTINELS, looks
from polytask.report.records import FilterRecord, Gain, Histogram, PathCost, Spread, Unit

NAMES = ("single", "hard", "<script>$x$ & co")
LOOKS = looks(NAMES)


def path(*units):
    parts = [Unit(name, owner, 10, 100) for name, owner in units]
    return PathCost(params=10 * len(parts), macs=100 * len(parts), units=parts)


EARLY = {
    "a": path(("stem", "shared"), ("layer1", "shared"), ("filter", "a"), ("head", "a")),
    "b": path(
        ("stem", "shared"), ("layer1", "shared"), ("layer2", "b"), ("filter", "b"), ("head", "b")
    ),
}
GAINS = {name: Gain(mean=i, ci95=(i - 1, i + 1)) for i, name in enumerate(NAMES)}
POINTS = [Point(name, 100 + i, 50 + i, 1.0) for i, name in enumerate(NAMES)]
SPREADS = {name: Spread(mean=0.5, std=0.1, per_seed=[0.4, 0.6, None]) for name in NAMES}
CURVES = {name: [{2: 0.1, 4: 0.5}, {2: 0.2}] for name in NAMES}
UNTRAINED = FilterRecord(alpha=[0, 0], beta=[0, 0], gates=Histogram(counts=[0, 5], mean=0.6))
FIGURES = {
    "gain": lambda: gain_figure(GAINS, LOOKS),
    "pareto": lambda: pareto_figure(POINTS, LOOKS),
    "spread": lambda: spread_figure("accuracy", SPREADS, LOOKS),
    "curves": lambda: curve_figure("accuracy", CURVES, LOOKS, 0.1),
    "impacts": lambda: impact_figure("hard", "impact", {name: [0.1, 0.5] for name in NAMES}),
    "gates": lambda: gate_figure(UNTRAINED, LOOKS["hard"]),
    "sharing": lambda: sharing_figure({**EARLY, NAMES[2]: EARLY["a"]}, LOOKS["hard"]),
}
HARMLESS = {"svg", "g", "path", "text", "use", "defs", "clipPath", "rect", "title", "tspan"}
drawings = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)


@drawings
def test_the_same_data_give_the_same_figure(draw):
    assert draw() == draw()


@drawings
def test_colours_are_left_to_the_page(draw):
    colours = set(re.findall(r"(?:fill|stroke):([^;\"]+)", draw()))
    assert {c for c in colours if c.startswith("#")} == set()
    assert colours <= {"none", *(f"var(--{role})" for role in SENTINELS)}


@drawings
def test_a_figure_is_inert_and_sized_by_the_page(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert {e.tag for e in root.iter()} <= HARMLESS
    assert "width" not in root.attrib
    assert "http" not in svg
    assert "font-family" not in svg
    assert len(svg) < 40_000


def test_a_user_s_own_matplotlib_settings_change_nothing():
    import matplotlib as mpl

    plain = FIGURES["spread"]()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert FIGURES["spread"]() == plain
        assert mpl.rcParams["font.size"] == 30


def test_names_are_text_as_given_even_where_they_look_like_formulas():
    texts = [e.text for e in ElementTree.fromstring(FIGURES["spread"]()).iter("text")]
    assert NAMES[2] in texts


def test_marks_carry_the_numbers():
    titles = [e.text for e in ElementTree.fromstring(FIGURES["spread"]()).iter("title")]
    assert titles[1] == "hard: 50.0 ± 10.0 (seeds: 40.0, 60.0, –)"


def test_a_curve_counts_the_epochs_that_trained_its_task_scored_or_not():
    """Scored after every second epoch; another task's phase and scores in between count nothing."""
    rows = []
    for phase, epoch in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a again", 1), ("a again", 2)]:
        rows.append({"phase": phase, "split": "train", f"loss/{phase[0]}": 1.0})
        if epoch == 2:
            rows.append({"phase": phase, "split": "val", "a/accuracy": len(rows) / 10})
    run = Run(Path(), "packnet", "0", rows=rows)
    assert run.curve("a", "accuracy") == {2: 0.2, 4: 0.8}
    svg = curve_figure("accuracy", {"hard": [run.curve("a", "accuracy")]}, LOOKS)
    assert "hard: 80.0 after 4 epochs" in svg


def test_a_curve_counts_the_seeds_that_reach_its_end():
    svg = curve_figure("accuracy", {"hard": [{1: 0.1, 2: 0.5}, {1: 0.2}, {1: 0.3}]}, LOOKS)
    assert "hard: 50.0 after 2 epochs, mean of 1 seed(s)" in svg


def test_errors_have_the_digits_of_their_spread():
    svg = pareto_figure([Point("hard", 100, 0.0123, 0.00041)], LOOKS, "", lower_is_better=True)
    assert "hard: 0.0123 ± 0.00041 at 100MAC" in svg


def test_a_spread_wider_than_its_seeds_is_not_cut_off():
    wide = {"hard": Spread(mean=0.5, std=0.3, per_seed=[0.45, 0.55])}
    root = ElementTree.fromstring(spread_figure("accuracy", wide, LOOKS))
    ticks = [float(e.text) for e in root.iter("text") if re.fullmatch(r"[\d.]+", e.text)]
    assert min(ticks) <= 30
    assert max(ticks) >= 70


def test_methods_look_alike_in_every_figure_and_single_is_the_baseline():
    found = looks(["a", "single", "b"])
    assert found["single"].role == "baseline"
    assert [found["a"].role, found["b"].role] == list(HUES[:2])
    assert looks(["single", "a", "b"]) == found
    many = looks([f"m{i}" for i in range(20)]).values()
    assert len({(look.role, look.mark) for look in many}) == 20


points = st.lists(
    st.builds(Point, st.just("m"), st.integers(1, 9).map(float), st.integers(0, 9).map(float)),
    min_size=1,
    max_size=12,
)


@given(points, st.booleans())
def test_the_frontier_is_what_no_point_beats(found, lower_is_better):
    sign = -1 if lower_is_better else 1

    def beats(p, q):
        no_worse = p.macs <= q.macs and sign * p.score >= sign * q.score
        return no_worse and (p.macs, p.score) != (q.macs, q.score)

    best = {(p.macs, p.score) for p in frontier(found, lower_is_better)}
    assert best == {(p.macs, p.score) for p in found if not any(beats(q, p) for q in found)}


def test_a_shared_unit_is_one_box_and_an_exit_is_the_last_unit_before_the_own_parts():
    shown = picture(EARLY)
    assert shown.lanes == ["a", "b"]
    assert shown.rows == ["stem", "layer1", "layer2", "filter", "head"]
    assert shown.exits == {"a": "layer1", "b": "layer2"}
    boxes = {(box.row, tuple(box.lanes)): box.users for box in shown.boxes}
    assert boxes["stem", ("a", "b")] == ["a", "b"]
    assert boxes["layer2", ("b",)] == ["b"]
    assert boxes["head", ("a",)] == ["a"]


def test_what_a_path_holds_beyond_its_units_is_its_head():
    bare = PathCost(params=25, macs=230, units=[Unit("stem", "shared", 10, 100)])
    shown = picture({"a": bare, "b": bare})
    assert shown.rows == ["stem", "head"]
    assert [box.unit for box in shown.boxes if box.row == "head"] == [
        Unit("head", "a", 15, 130),
        Unit("head", "b", 15, 130),
    ]


def test_columns_stand_in_lanes_of_their_own_and_links_after_their_unit():
    both = [("a/stem", "a"), ("a/layer1", "a"), ("b/stem", "b"), ("b/layer1", "b")]
    shown = picture({t: path(*both, ("links/stem", t), ("head", t)) for t in ("a", "b")})
    assert shown.lanes == ["a", "b"]
    assert shown.rows == ["stem", "⇄ stem", "layer1", "head"]
    users = {(box.row, tuple(box.lanes)): box.users for box in shown.boxes}
    assert users["stem", ("a",)] == ["a", "b"]
    assert users["⇄ stem", ("a", "b")] == ["a", "b"]


def test_an_expert_that_belongs_to_no_task_gets_a_lane():
    paths = {t: path(("expert0/stem", "shared"), ("head", t)) for t in ("a", "b")}
    shown = picture(paths)
    assert shown.rows == ["stem", "head"]
    assert next(box.users for box in shown.boxes) == ["a", "b"]


def test_only_an_early_exit_is_marked():
    root = ElementTree.fromstring(sharing_figure(EARLY, LOOKS["hard"]))
    titles = [e.text for e in root.iter("title")]
    assert "a leaves after layer1" in titles
    assert not any("b leaves" in title for title in titles)


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(3, 20))
def test_shortened_names_fit_and_keep_both_ends(text, length):
    short = shorten(text, length)
    assert len(short) <= length
    if len(text) <= length and text.isprintable():
        assert short == text
    if len(text) > length:
        assert "…" in short
