"""What columns learned, drawn: every value is in the figure, and a page shows what a run kept."""

import json
import re

from polytask.report.affinity import affinity_page
from polytask.report.figures.matrix import matrix_figure
from polytask.report.figures.sharing import sharing_figure
from polytask.report.links import link_figures, ratio_table, shared_kernels
from polytask.report.palette import looks
from polytask.report.records import PathCost, Unit

LOOK = looks(["cross_stitch"])["cross_stitch"]


def tips(svg):
    return re.findall(r"<title>(.*?)</title>", svg)


def test_a_cell_each_as_dark_as_its_value_is_far_from_zero():
    svg = matrix_figure(["a", "b"], ["x", "y"], [[1.0, -0.5], [0.0, 0.25]], LOOK, "Of all")
    assert tips(svg) == ["a, x: 1.000", "a, y: -0.500", "b, x: 0.000", "b, y: 0.250"]
    marks = svg.split('class="mark"')[1:]
    shades = [float(re.search(r"opacity:([\d.]+)", mark).group(1)) for mark in marks]
    assert shades == [0.8, 0.44, 0.08, 0.26]
    assert 'aria-label="Of all. a: x 1.00, y -0.50; b: x 0.00, y 0.25"' in svg


def test_stitches_gates_and_ratios_of_a_run(tmp_path):
    channels = [[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]]]
    links = {"columns": ["cat", "dog"], "alpha": {"layer1": channels, "layer2": channels[0]}}
    (tmp_path / "links.json").write_text(json.dumps(links))
    layer = {"participation": [1.0, 0.5], "compression": [0.5, 0.25]}
    layers = {"conv1": {**layer, "is_shareable": True}, "odd": {**layer, "is_shareable": False}}
    (tmp_path / "kernel_sharing.json").write_text(json.dumps({"layers": layers}))
    found = dict(link_figures(tmp_path, LOOK))
    assert [title.split(":")[0] for title in found] == [
        "stitch after layer1",
        "stitch after layer2",
        "participation",
        "compression",
    ]
    mean, plain, participation, _ = found.values()
    assert tips(mean)[:2] == ["cat takes, cat: 0.800", "cat takes, dog: 0.200"]
    assert tips(plain)[2] == "dog takes, cat: 0.200"
    assert tips(participation) == ["conv1, 0: 1.000", "conv1, 1: 0.500"]


def test_ratios_in_numbers_layer_by_layer_and_over_all_kernels(tmp_path):
    """All layers: each weighs as much as it has kernels; one that cannot share does not count."""
    layers = {
        "conv1": {"kernels": [4, 4], "participation": [1.0, 0.5], "compression": [0.5, 0.25]},
        "conv2": {"kernels": [12, 12], "participation": [0.5, 0.0], "compression": [0.25, 0.0]},
        "odd": {"kernels": [8, 8], "participation": [0.0, 0.0], "compression": [0.0, 0.0]},
    }
    for name, facts in layers.items():
        facts["is_shareable"] = name != "odd"
    (tmp_path / "kernel_sharing.json").write_text(json.dumps({"layers": layers}))
    table = ratio_table(tmp_path)
    assert table.epochs == ["0", "1"]
    assert table.rows == [
        ("conv1", "8", ["100.0 / 50.0", "50.0 / 25.0"]),
        ("conv2", "24", ["50.0 / 25.0", "0.0 / 0.0"]),
        ("all layers", "32", ["62.5 / 31.2", "12.5 / 6.2"]),
    ]
    assert ratio_table(tmp_path / "nowhere") is None


def test_a_run_without_links_has_no_figures(tmp_path):
    assert list(link_figures(tmp_path, LOOK)) == []
    (tmp_path / "links.json").write_text("{")
    assert list(link_figures(tmp_path, LOOK)) == []


def test_the_page_of_affinities_is_self_contained_and_safe():
    names = ["a", "<b>"]
    pair = {a: dict.fromkeys(names, 0.5) for a in names}
    found = {"tasks": names, "look_ahead": pair, "cosine": pair, "steps": 3, "groups": [names]}
    page = affinity_page(found, "measured on 3 steps; 1 of 2", "methods: []")
    assert "<b>" not in page
    assert not re.search(r"(src|href)=|https?://", page.split("</style>")[1])
    assert "50.000 %" in page


def test_units_of_columns_are_filled_as_far_as_their_kernels_are_shared(tmp_path):
    """(3 · 0.5 + 1 · 0) / 4 kernels of `layer1`; `layer10` is another unit, and shares none."""
    layers = {
        "layer1.0.conv": {"kernels": [2, 1], "is_shareable": True, "participation": [1.0, 0.5]},
        "layer1.1.conv": {"kernels": [1, 0], "is_shareable": False, "participation": [1.0, 1.0]},
        "layer10.conv": {"kernels": [4, 4], "is_shareable": True, "participation": [1.0, 0.0]},
    }
    (tmp_path / "kernel_sharing.json").write_text(json.dumps({"layers": layers}))
    shares = shared_kernels(tmp_path, ["stem", "layer1", "layer10"])
    assert shares == {"layer1": 0.375}
    assert shared_kernels(tmp_path / "none", ["layer1"]) == {}

    units = [Unit(f"{column}/layer1", column, 4, 8) for column in ("cat", "dog")]
    paths = {u.owner: PathCost(params=4, own_params=4, macs=8, units=[u]) for u in units}
    svg = sharing_figure(paths, LOOK, shares)
    assert sum("38 % of the kernels of this layer are shared" in tip for tip in tips(svg)) == 2 * 2
    assert "shared between columns" not in sharing_figure(paths, LOOK)
