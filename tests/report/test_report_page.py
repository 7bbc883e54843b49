"""The page of a folder: what it holds, what it leaves out, and that nothing in it is alive."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polytask.errors import RunError
from polytask.report import report

ORDER = [
    "verdict",
    "results",
    "pareto",
    "spreads",
    "curves",
    "cost",
    "sharing",
    "filters",
    "samples",
    "training",
    "health",
    "about",
]


class Page(HTMLParser):
    """Tags with their attributes, section anchors, and the cells of each section's first table."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text("utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: list[str] = []
        self.rows: dict[str, list[list[tuple[str, dict[str, str | None]]]]] = {}
        self.scripts = ""
        self._open: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._open.append(tag)
        if tag == "section":
            self.sections.append(attributes["id"])
        elif tag == "tr" and self.sections:
            self.rows.setdefault(self.sections[-1], []).append([])
        elif tag in ("td", "th") and self.sections:
            self.rows[self.sections[-1]][-1].append(("", attributes))

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._open:
            self.scripts += data
        elif {"td", "th"} & set(self._open) and self.sections:
            row = self.rows[self.sections[-1]][-1]
            text, attributes = row[-1]
            row[-1] = (text + data, attributes)


def page_of(folder: Path) -> Page:
    return Page(report(folder))


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return page_of(finished)


def words(folder: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page_of(folder).text).split())


def test_sections_stand_in_the_order_that_answers_the_question_first(page):
    assert page.sections == ORDER


def test_numbers_of_the_main_table_are_those_of_results_json(page, finished):
    results = json.loads((finished / "results.json").read_text())
    rows = page.rows["results"]
    header, body = rows[0], rows[1 : 1 + len(results["methods"])]
    assert [cell.split()[-1] for cell, _ in (row[0] for row in body)] == list(results["methods"])
    for row, method in zip(body, results["methods"].values(), strict=True):
        for (text, attributes), task in zip(row[1:3], method["tasks"].values(), strict=True):
            scores = task["accuracy"]
            assert text.endswith(f"{100 * scores['mean']:.1f} ± {100 * scores['std']:.1f}")
            assert float(attributes["data-value"]) == scores["mean"]
        total = method["cost"]["total"]
        assert [float(a["data-value"]) for _, a in row[-2:]] == [total["params"], total["macs"]]
        if method["delta_m"]:
            low, high = method["delta_m"]["ci95"]
            text = f"{method['delta_m']['mean']:+.1f} [{low:.1f}, {high:.1f}]".replace("-", "−")
            assert row[3][0] == text
            assert row[4][0].split()[-1] == method["verdict"]["overall"]["value"]
    assert [cell.split()[-1] for cell, _ in header[-2:]] == ["Params", "MACs"]


def test_every_verdict_is_said_with_its_interval_and_the_recommendation_stands_first(finished):
    text = words(finished)
    for method, interval in (
        ("hard", "[−1.9, 2.3]"),
        ("hard_filter", "[1.2, 3.6]"),
        ("multi_exit", "[0.4, 3.8]"),
    ):
        assert method in text
        assert interval in text
    assert "no difference shown at 3 seeds" in text
    assert text.index("Use hard_filter.") < text.index("no difference shown at 3 seeds")


def test_the_same_files_give_the_same_page(finished):
    first = report(finished).read_bytes()
    assert report(finished).read_bytes() == first
    assert not list(finished.glob(".report*"))


def test_the_page_loads_nothing_and_names_no_address(page):
    assert not re.search(r"https?:|ftp:|@import|url\((?!#)|javascript:", page.text)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for key in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            value = attributes.get(key) or "#"
            assert value.startswith(("#", "data:image/png;base64,"))


def test_only_the_script_that_the_policy_names_may_run(page):
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(page.scripts.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert [t for t, _ in page.tags].count("script") == 1


def test_ids_are_unique_and_anchors_lead_somewhere(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    hrefs = {a["href"][1:] for t, a in page.tags if t in ("a", "use") and a.get("href")}
    clips = set(re.findall(r"url\(#([^)]+)\)", page.text))
    assert hrefs | clips <= set(ids)


def test_every_figure_says_in_words_what_it_shows(page):
    labels = [a.get("aria-label", "") for t, a in page.tags if t == "svg"]
    assert len(labels) > 10
    assert all(len(label) > 20 for label in labels)
    assert all(a.get("alt") for t, a in page.tags if t == "img")


def luminance(colour):
    """Relative luminance of #rrggbb as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_that_reading_takes(page):
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", page.text, re.S)
    )
    assert set(light) == set(dark)
    for theme in (light, dark):
        for text, ground in [
            *((t, g) for t in ("ink", "muted", "accent") for g in ("surface", "page", "code")),
            *((v, f"{v}-bg") for v in ("helps", "hurts", "unclear")),
        ]:
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        marks = [name for name in theme if name.startswith("hue")]
        assert len(marks) == 8
        for mark in ("baseline", *marks):
            assert contrast(theme[mark], theme["surface"]) >= 3, mark


HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</title></svg><script>",
    "]]>--><!--{{ 7*7 }}",
    "$\\frac{1}{0}$ _x^y",
    "猫と犬 🐕 ‮abc",
    "tab\tnew\nline\x07bell",
)


def test_hostile_names_stay_text(tmp_path, make_comparison):
    folder = tmp_path / "<b>x"
    make_comparison(folder, methods=("single", "hard_filter"), seeds=2, tasks=HOSTILE)
    result = json.loads((folder / "results.json").read_text())
    judged = result["methods"]["hard_filter"]["verdict"]
    judged["overall"]["reason"] = "<script>alert('reason')</script>"
    result["versions"]["<script>alert(2)</script>"] = "</pre><script>"
    (folder / "results.json").write_text(json.dumps(result))
    (folder / "hard_filter" / "seed0" / "error.txt").write_text("</pre><script>alert(3)</script>")
    page = page_of(folder)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert tags.count("img") == len(HOSTILE)
    assert tags.count("b") == 0
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "{{ 7*7 }}" in page.text


def test_a_run_that_has_not_finished_is_called_as_it_was_started(tmp_path, make_run):
    make_run(tmp_path / "mine", "hard", 3, finished=False)
    (tmp_path / "mine" / "tasks.json").write_text('{"method": "hard", "seed": 3, "tasks": {}}')
    text = report(tmp_path / "mine").read_text("utf-8")
    assert "</span> hard, scored on test images" in text
    assert "polytask train mine/config.yaml --method hard --seed 3" in text


def test_lone_surrogates_do_not_stop_the_page(comparison):
    results = json.loads((comparison / "results.json").read_text())
    results["versions"]["\ud800"] = "1"
    (comparison / "results.json").write_text(json.dumps(results))
    assert "Versions" in words(comparison)


@pytest.mark.parametrize(
    ("files", "section", "said"),
    [
        ("*/seed*/metrics.jsonl", "curves", "learning curves"),
        ("*/seed*/samples/*.png", "samples", "sample batches"),
        ("*/seed*/plots/filters.json", "filters", None),
        ("*/seed*/result.json", "training", "result.json is missing"),
    ],
)
def test_a_section_without_files_is_left_out_and_said(comparison, files, section, said):
    for path in comparison.glob(files):
        path.unlink()
    page = page_of(comparison)
    assert section not in page.sections
    assert f'href="#{section}"' not in page.text
    assert set(ORDER) - set(page.sections) == {section}
    assert (said is None) == ("missing" not in page.sections)
    if said:
        assert said in page.text


def test_without_results_json_the_finished_runs_are_shown_and_no_verdict_is_given(comparison):
    (comparison / "results.json").unlink()
    text = words(comparison)
    assert "No verdict yet." in text
    assert "results.json is missing" in text
    runs = [
        json.loads((comparison / f"hard_filter/seed{k}/result.json").read_text())["tasks"][
            "read_print"
        ]
        for k in range(2)
    ]
    mean = sum(run["accuracy"] for run in runs) / 2
    assert f"{100 * mean:.1f} ±" in text


def test_a_failed_run_is_named_with_its_reason_and_the_others_stay(tmp_path, make_run):
    make_run(tmp_path / "c" / "single" / "seed0", "single", 0)
    make_run(tmp_path / "c" / "hard" / "seed0", "hard", 0, finished=False)
    (tmp_path / "c" / "hard" / "seed0" / "error.txt").write_text("the loss of task 'x' became nan")
    text = words(tmp_path / "c")
    assert "hard, seed 0 failed:" in text
    assert "became nan" in text
    assert "single" in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"methods": 3}', '{"methods": {"hard": 1}}'])
def test_an_unreadable_results_json_is_said(comparison, content):
    (comparison / "results.json").write_text(content)
    page = page_of(comparison)
    assert "missing" in page.sections
    assert "No verdict yet." in page.text


def test_a_task_that_does_not_learn_is_told_beside_the_verdict(comparison):
    results = json.loads((comparison / "results.json").read_text())
    results["methods"]["hard_filter"]["health"]["read_print"] = "at_chance"
    (comparison / "results.json").write_text(json.dumps(results))
    text = words(comparison)
    assert "read_print is at chance with hard_filter" in text
    assert text.index("is at chance with") < text.index("Test scores")


def test_own_parameters_are_what_the_path_holds_beyond_the_shared_units(comparison):
    cost = json.loads((comparison / "hard_filter" / "seed0" / "cost.json").read_text())
    path = cost["tasks"]["read_print"]
    own = path["params"] - sum(u[2] for u in path["units"] if u[1] == "shared")
    row = page_of(comparison).rows["training"][-1]
    assert [cell for cell, _ in row][:2] == ["read_print", "read_handwriting"]
    assert row[3][0] == f"{own / 1000:.2f} k"


def test_costs_tell_what_masks_leave_and_the_latency(comparison):
    results = json.loads((comparison / "results.json").read_text())
    path = results["methods"]["hard_filter"]["cost"]["tasks"]["read_print"]
    macs = path["macs"]
    path |= {"effective_macs": macs // 2, "latency_ms": 0.41251}
    (comparison / "results.json").write_text(json.dumps(results))
    rows = [[cell for cell, _ in row] for row in page_of(comparison).rows["cost"]]
    (measured,) = [row for row in rows if "0.413 ms" in row]
    left = f"{macs / 1e6:.1f} M ({macs // 2 / 1e6:.1f} M)"
    assert measured[measured.index("0.413 ms") - 1] == left
    assert sum("(" in cell for row in rows for cell in row) == 1


def test_a_cut_off_line_of_metrics_is_counted(comparison):
    path = comparison / "hard_filter" / "seed0" / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert "metrics.jsonl: 1 unreadable row(s)" in words(comparison)


def test_pictures_that_all_runs_share_are_shown_once(page):
    tags = [tag for tag, _ in page.tags]
    assert tags.count("img") == 2


def test_a_file_that_is_no_png_is_left_out_and_named(comparison):
    (comparison / "single" / "seed0" / "samples" / "odd.png").write_bytes(b"GIF89a" + b"\0" * 40)
    assert "single/seed0/odd.png is not a PNG file" in words(comparison)


def test_a_run_folder_shows_its_scores_and_asks_for_no_verdict(tmp_path, make_run):
    result = make_run(tmp_path / "run", "hard_filter", 4)
    page = page_of(tmp_path / "run")
    assert page.sections == [s for s in ORDER if s not in ("verdict", "pareto", "spreads")]
    score = 100 * result["tasks"]["read_handwriting"]["accuracy"]
    assert f"read_handwriting: {score:.1f} % accuracy" in page.text
    assert "--method hard_filter --seed 4" in page.text
    assert "helps" not in page.rows["results"][1][1][0]


def test_folders_that_are_neither_are_refused(tmp_path):
    for folder, problem in ((tmp_path / "absent", "no such folder"), (tmp_path, "results.json")):
        with pytest.raises(RunError) as caught:
            report(folder)
        (fault,) = caught.value.faults
        assert fault.where == str(folder)
        assert problem in fault.problem
        assert fault.hint
    assert not list(tmp_path.iterdir())


ODD = st.sampled_from([None, float("nan"), float("inf"), -1, 1e300, "text", [], {}, [1], True])


def places(value, path=()):
    """Every place in a JSON document but the document itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), value=ODD)
def test_any_value_out_of_place_leaves_a_page(tmp_path, make_comparison, data, value):
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    make_comparison(tmp_path / "c", methods=("single", "hard_filter"), seeds=1, tasks=("a",))
    file = data.draw(
        st.sampled_from(["results.json", "single/seed0/cost.json", "hard_filter/seed0/result.json"])
    )
    document = json.loads((tmp_path / "c" / file).read_text())
    *above, last = data.draw(st.sampled_from(list(places(document))))
    holder = document
    for key in above:
        holder = holder[key]
    holder[last] = value
    (tmp_path / "c" / file).write_text(json.dumps(document))
    assert page_of(tmp_path / "c").sections[0] == "verdict"


def test_the_page_is_built_without_torch(comparison):
    code = (
        "import sys; from pathlib import Path; from polytask.report import report\n"
        "report(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(comparison)]).returncode == 0
