"""The page in a real browser: it fits a phone, its script runs, and hostile names stay dead."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from polytask.report import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--dump-dom",
)
# Runs in a copy of the page, in a frame, since a headless window is never narrower than 500 pixels;
# what it finds is read from the dumped document around it.
PROBE = """
document.querySelectorAll("details").forEach((d) => { d.open = true; });
const root = document.documentElement;
const wide = [...document.querySelectorAll("body *")].filter((e) => {
  if (e.closest(".scroll, pre, svg")) return false;
  return e.getBoundingClientRect().right > innerWidth + 1;
});
const table = document.querySelector("#results table");
const first = () => table.tBodies[0].rows[0].cells[1].dataset.value;
const before = first();
table.tHead.rows[0].cells[1].querySelector("button").click();
const bubble = document.getElementById("tip");
const point = (element) => {
  element.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 5, clientY: 5}));
  return bubble.hidden ? null : bubble.textContent;
};
const tips = [point(document.querySelector("#spreads .mark")), point(document.body)];
parent.document.documentElement.dataset.probe = JSON.stringify({
  inner: innerWidth,
  scroll: root.scrollWidth,
  wide: wide.map((e) => e.tagName + "." + e.className),
  before: before,
  after: first(),
  most: Math.max(...[...table.tBodies[0].rows].map((r) => Number(r.cells[1].dataset.value))),
  sorted: table.tHead.rows[0].cells[1].getAttribute("aria-sort"),
  tips: tips,
  alive: window.alive === true,
});
"""


def dump(page: Path, profile: Path) -> str:
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--window-size=1500,900"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=600, check=True
    )
    return done.stdout


def probed(page: Path, width: int, tmp_path: Path) -> dict:
    text = page.read_text("utf-8")
    policy = re.compile(r"<meta http-equiv=[^>]*>")
    assert policy.search(text)
    copy = policy.sub("", text).replace("</body>", f"<script>{PROBE}</script></body>")
    frame = tmp_path / "frame.html"
    frame.write_text(f'<iframe srcdoc="{escape(copy)}" style="border:0;width:{width}px"></iframe>')
    found = re.search(r'data-probe="([^"]*)"', dump(frame, tmp_path / "profile"))
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_reaches_over_the_edge(finished, tmp_path, width):
    found = probed(report(finished), width, tmp_path)
    assert found["inner"] == width
    assert found["wide"] == []
    assert found["scroll"] <= width


def test_a_click_on_a_header_sorts_the_table(finished, tmp_path):
    found = probed(report(finished), 1400, tmp_path)
    assert found["sorted"] == "descending"
    assert float(found["after"]) == found["most"]
    assert found["before"] != found["after"]


def test_marks_tell_their_numbers_while_pointed_at(finished, tmp_path):
    over, beside = probed(report(finished), 1400, tmp_path)["tips"]
    assert re.fullmatch(r"single: [\d.]+ ± [\d.]+ \(seeds: .*\)", over)
    assert beside is None


def test_long_and_hostile_names_neither_run_nor_widen_the_page(tmp_path, make_comparison):
    names = ("<script>window.alive = true</script>", "<img src=x onerror='alive=true'>", "x" * 150)
    make_comparison(tmp_path / "c", methods=("single", "hard"), seeds=2, tasks=names)
    found = probed(report(tmp_path / "c"), 390, tmp_path)
    assert not found["alive"]
    assert found["wide"] == []


def test_the_script_runs_under_the_page_s_own_policy(finished, tmp_path):
    dom = dump(report(finished), tmp_path / "profile")
    assert '<button type="button">' in dom
    assert 'id="tip"' in dom
