"""The self-contained page of a run or a comparison, from its files alone."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.report import answers, drawings, numbers, published, sections, wording
from polytask.report.folder import Folder, read_folder
from polytask.report.palette import looks
from polytask.report.trials import trials_page

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
# What a page may hold, in its order: anchor, name in the list of contents.
CONTENTS = (
    ("results", "Results"),
    ("published", "Published"),
    ("pareto", "Accuracy against cost"),
    ("spreads", "Seeds"),
    ("curves", "Learning curves"),
    ("impacts", "Impact of tasks"),
    ("answers", "Answers"),
    ("worst", "Worst images"),
    ("confusion", "Confusion"),
    ("cost", "Cost"),
    ("sharing", "What is shared"),
    ("links", "Links between columns"),
    ("activations", "Activation maps"),
    ("alike", "What is alike"),
    ("filters", "Filters"),
    ("samples", "Samples"),
    ("training", "Who trains what"),
    ("health", "Health"),
    ("config", "Config"),
    ("versions", "Versions"),
)
# Named as missing where a folder has nothing to fill them; not every method has filters or links.
EXPECTED = {
    "results": "scores (no run has finished)",
    "curves": "learning curves (no metrics.jsonl with validation rows)",
    "cost": "cost and the picture of sharing (no cost.json)",
    "samples": "sample batches (no samples/*.png)",
    "config": "the config",
}


def report(folder: str | Path) -> Path:
    """Write `report.html` into the folder of a run, a comparison or a search; return its path.

    Raises:
        RunError: the folder does not exist, or holds none of them.
    """
    folder = Path(folder)
    found = folder / "search.json"
    page = trials_page(found) if found.exists() else render(read_folder(folder))
    path = folder / "report.html"
    partial = folder / f".report.html.{os.getpid()}"
    try:
        # Names from files may hold halves of a surrogate pair, which no encoding can write.
        partial.write_text(page, "utf-8", errors="replace")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def page_of(folder: Path) -> Path:
    """The page of a folder, written unless a run has done so when it ended."""
    path = folder / "report.html"
    return path if path.exists() else report(folder)


def render(folder: Folder) -> str:
    """The page as text; the same files give the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["soft"] = soft
    environment.filters["file_name"] = answers.file_name
    script = (HERE / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        **context(folder),
        style=Markup((HERE / "page.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        drawn=Markup,
    )


def soft(name: str) -> Markup:
    """A name that may break after its underscores."""
    from markupsafe import Markup, escape

    return Markup("_<wbr>").join(map(escape, name.split("_")))


def context(folder: Folder) -> dict[str, Any]:
    """Everything the template shows."""
    look = looks(list(folder.methods))
    samples, left_out = sections.samples(folder)
    pictures = answers.Pictures()
    activations, too_many = sections.activations(folder)
    alike, more = sections.alike(folder)
    content: dict[str, Any] = {
        "results": sections.result_rows(folder) if _has_scores(folder) else [],
        "published": published.tables(folder.reproduction) if folder.reproduction else [],
        "pareto": drawings.pareto(folder, look),
        "spreads": drawings.spreads(folder, look),
        "curves": drawings.curves(folder, look),
        "impacts": drawings.impacts(folder),
        "answers": answers.shown(folder, pictures),
        "worst": answers.worst(folder, pictures),
        "confusion": drawings.confusions(folder, look),
        "cost": sections.cost_rows(folder),
        "sharing": drawings.sharing(folder, look),
        "links": drawings.links(folder, look),
        "activations": activations,
        "alike": alike,
        "filters": drawings.filters(folder, look),
        "samples": samples,
        "training": sections.trainings(folder),
        "health": sections.health(folder),
        "config": folder.config,
        "versions": folder.versions,
    }
    if pictures.left_out:
        left_out.append(f"{pictures.left_out} picture(s) of answers, unreadable or too large")
    return {
        **content,
        "contents": [(anchor, name) for anchor, name in CONTENTS if content[anchor]],
        "folder": folder,
        "looks": look,
        "name": folder.path.resolve().name,
        "labels": {t: numbers.label(m) for t, m in folder.primaries.items()},
        "missing": [text for key, text in EXPECTED.items() if not content[key]],
        "left_out": left_out + too_many + more,
        "split": answers.split_of(folder),
        "colours": answers.colours(folder),
        "failures": sections.failures(folder),
        "skipped": sections.skipped(folder),
        "troubles": sections.troubles(folder),
        "normalisation": sections.normalisation(folder),
        "ratios": drawings.ratios(folder),
        "metrics": sections.metric_rows(folder),
        "reasons": sections.reasons(folder),
        "hows": {name: wording.how(m) for name, m in folder.methods.items() if wording.how(m)},
        "gain": drawings.gain(folder, look),
        "signs": sections.SIGNS,
        "commands": _commands(folder),
        **_verdict(folder),
    }


def _has_scores(folder: Folder) -> bool:
    return any(method.tasks for method in folder.methods.values())


def _verdict(folder: Folder) -> dict[str, Any]:
    found = [wording.sentence(name, m, folder.seeds) for name, m in folder.methods.items()]
    if folder.is_comparison:
        headline = wording.headline(folder.methods, folder.seeds, folder.has_results)
    else:
        headline = wording.run_headline(folder.all_runs()[0].result)
    return {
        "headline": headline,
        "advice": wording.recommendation(folder.methods, folder.seeds),
        "sentences": [sentence for sentence in found if sentence],
    }


def _commands(folder: Folder) -> list[str]:
    name = folder.path.resolve().name
    config, again = shlex.quote(f"{name}/config.yaml"), shlex.quote(f"{name}-again")
    rebuild = f"polytask report {shlex.quote(name)}"
    if folder.is_comparison:
        return [f"polytask compare {config} --out {again}", rebuild]
    (run,) = folder.all_runs()
    method, seed = shlex.quote(run.method), shlex.quote(run.seed)
    return [f"polytask train {config} --method {method} --seed {seed} --out {again}", rebuild]
