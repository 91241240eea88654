"""Reports: what pages hold and what they must not, and how a browser shows them."""

import json
import math
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import typer.main
import yaml
from matplotlib.figure import Figure

from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import read_run
from rllib_wireless.algorithms.training import train
from rllib_wireless.cli import app
from rllib_wireless.cli import run as run_command
from rllib_wireless.console import key_values
from rllib_wireless.data.card import read_card
from rllib_wireless.errors import UserError
from rllib_wireless.report import build, report
from rllib_wireless.report.vector import DARK, LIGHT, contrast, inline, seen_on
from rllib_wireless.tables import cell
from rllib_wireless.tuning.parallel import draw_parallel
from rllib_wireless.tuning.settings import read_sweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RESULTS = {p.parent.name: p.parent for p in sorted((Path(__file__).parents[1] / "docs/results").glob("*/results.json"))}
WITH_RAY = [pytest.param(name, marks=pytest.mark.ray) for name in ("trained", "swept")]
ALL = [*WITH_RAY, "csma_data", *RESULTS]
ENV = {"num_stations": 3}
SMALL = {
    "dataset_num_iters_per_learner": 10,
    "evaluation_interval": 1,
    "evaluation_duration": 800,
    "num_envs_per_env_runner": 8,
}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"

# No content, so no end tag; in SVG, any element may end itself.
VOID = {"meta", "img", "br", "link", "hr"}


@pytest.fixture(scope="module")
def trained(csma_data: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """Behaviour cloning, two iterations."""
    out = tmp_path_factory.mktemp("runs") / "bc"
    train("bc", "channel_access", out=out, data=csma_data, env_config=ENV, settings=SMALL, iterations=2)
    return out


@dataclass
class Made:
    """Reports by name, each made once."""

    request: pytest.FixtureRequest
    out: Path
    pages: dict[str, Path] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """What it is about: a fixture's folder, or a paper's kept results."""
        found: Path = RESULTS[name] if name in RESULTS else self.request.getfixturevalue(name)
        return found

    def page(self, name: str) -> Path:
        """The page."""
        if name not in self.pages:
            self.pages[name] = report(self.folder(name), self.out / f"{name}.html")
        return self.pages[name]

    def parsed(self, name: str) -> "Parsed":
        """The page, read anew."""
        return Parsed(self.page(name).read_text())


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(request, tmp_path_factory.mktemp("pages"))


class Parsed(HTMLParser):
    """All elements of a page with their attributes, its text and its tables; end tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open or tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def command_in(page: Parsed) -> list[str]:
    """Arguments of the command that makes the results again."""
    (line,) = re.findall(r"This makes them again: (rllib-wireless .*?) (?:Claims|Last|What|Best)", page.text)
    return shlex.split(line)[1:]


def parameters(command: list[str]) -> dict[str, Any]:
    """What the command line makes of a command."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands[command[0]].make_context(command[0], command[1:]).params


# ------------------------------------------------------------------------------------------------ HTML


@pytest.mark.parametrize("name", ALL)
def test_a_page_is_whole_and_fetches_and_runs_nothing(made: Made, name: str) -> None:
    text = made.page(name).read_text()
    page = Parsed(text)
    ids = [str(a["id"]) for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    used = re.findall(r"(?:href=\"|url\()#([^\")]+)", text)
    assert used and set(used) <= set(ids)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not any(key.startswith("on") for key in attributes)
        for key in ("href", "src"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"@import|url\((?!#)", text)
    # Where a browser would fetch something after all, the page itself forbids it.
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", ALL)
def test_a_page_can_be_read_by_those_who_cannot_see_it(made: Made, name: str) -> None:
    page = made.parsed(name)
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("svg")) + len(page.all("img"))
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))


def test_text_of_users_stays_text(tmp_path: Path, trained: Path, made: Made) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    content = yaml.safe_load((folder / "run.yaml").read_text())
    content["settings"][EVIL] = EVIL
    content["data"] = EVIL
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    results = json.loads((RESULTS["fedmorl-demo"] / "results.json").read_text())
    results["claims"][0] |= {"claim": EVIL, "paper": EVIL}
    results["settings"][EVIL] = EVIL
    study = tmp_path / "study"
    study.mkdir()
    rows = json.loads((RESULTS["scam_fqi"] / "results.json").read_text())
    for row in rows["studies"]["different"]:
        row["arm"]["policy"] = EVIL + row["arm"]["policy"]
    (study / "results.json").write_text(json.dumps(rows))
    (tmp_path / "results.json").write_text(json.dumps(results))
    for given, times, name in ((folder, 2, "trained"), (tmp_path, 3, "fedmorl-demo"), (study, 10, "scam_fqi")):
        page, usual = Parsed(build(given)), made.parsed(name)
        assert page.text.count(EVIL) >= times
        assert not page.all("script")
        assert len(page.all("img")) <= len(usual.all("img"))


def test_figures_take_the_pages_colours_and_ids_of_their_own() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 72 36">'
        '<defs><clipPath id="a"/><style>*{}</style></defs><metadata>made by</metadata>'
        '<g clip-path="url(#a)" style="stroke: #000000; fill: #e69f00"><use xlink:href="#a"/></g>'
        "<text>a &lt; b</text><text>0.5</text></svg>"
    )
    page = Parsed(str(inline(svg, "f1-", "What it shows.")))
    assert page.all("svg")[0]["aria-label"] == "What it shows. a < b"
    assert page.all("clippath")[0]["id"] == "f1-a" and page.all("use")[0]["href"] == "#f1-a"
    group = page.all("g")[0]
    assert group["clip-path"] == "url(#f1-a)"
    light, dark = seen_on(LIGHT, "#e69f00"), seen_on(DARK, "#e69f00")
    assert light != dark == "#e69f00"
    assert group["style"] == f"stroke: currentColor; fill: #e69f00; fill: light-dark({light}, {dark})"
    assert not page.all("style") and "made by" not in page.text


@pytest.mark.parametrize("ground", [LIGHT, DARK])
def test_every_colour_is_seen(ground: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # a value that is often given
    for color in ("#0072b2", "#d55e00", "#e69f00", "#56b4e9", "#555555", "#ffff00", "#000080", "#bbbbbb"):
        assert contrast(seen_on(ground, color), ground) >= 3
        if contrast(color, ground) >= 3:
            assert seen_on(ground, color) == color


# ------------------------------------------------------------------------------------------------ content


def test_a_run_is_shown_with_settings_evaluation_curves_data_and_policy(trained: Path, made: Made) -> None:
    page = made.parsed("trained")
    assert page.text.startswith("bc on channel_access")
    starts = [row[:4] for row in page.rows]
    for name, value in (SMALL | ENV).items():
        assert any(start[:2] == [name, cell(value)] for start in starts), name
    defaults = {d.name: d for d in algorithm_spec("bc").settings}
    assert ["lr", cell(defaults["lr"].default), defaults["lr"].unit, defaults["lr"].description] in page.rows
    lines = (trained / "progress.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])["evaluation"]["env_runners"]
    for metric in ("throughput_ratio", "collision_rate"):
        assert [metric, *map(cell, (last[metric], last["lower95"][metric], last["upper95"][metric]))] in starts
    captions = [svg["aria-label"] for svg in page.all("svg")]
    assert "throughput_ratio iteration" in captions and "learners/agents/loss iteration" in captions
    assert ["csma_ca", "1", "20000"] in [row[:3] for row in page.rows]
    assert "acts each agent by what it observes" in page.text


def test_a_sweep_is_shown_with_its_best_configuration_trials_and_figures(swept: Path, made: Made) -> None:
    page = made.parsed("swept")
    content = json.loads((swept / "results.json").read_text())
    best = content["trials"][content["best"]]
    for name, value in best["settings"].items():
        assert any(row[:2] == [name, cell(value)] and row[3] == content["space"][name] for row in page.rows)
    for trial in content["trials"]:
        (row,) = [r for r in page.rows if r[0] == str(trial["number"])]
        assert [cell(value) for value in trial["values"].values()] == row[2:4]
        assert [cell(trial["settings"][name]) for name in content["space"]] == row[6:9]
        assert ("best" in row[1]) == (trial is best) and ("front" in row[1]) == (trial["number"] in content["front"])
    drawn = {path.stem for path in swept.glob("*.png")}
    assert len(page.all("svg")) == len(drawn) + 1 >= 3  # and the lines across settings


def test_a_trials_line_is_where_its_values_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr("rllib_wireless.tuning.parallel.save", lambda figure, path, dpi: kept.append(figure))
    found = [
        ({"lr": 1e-3, "clip": None}, 2.0, True),  # `beta` does not count in it
        ({"lr": 1e-2, "clip": 0.5, "beta": 3}, 1.0, False),
        ({"lr": 1.0, "clip": 1.0, "beta": 1}, 1.5, False),  # beyond what is searched, as a default may be
    ]
    trials = [
        {"number": n, "state": "done", "defaults": defaults, "settings": settings, "values": {"score": score}}
        for n, (settings, score, defaults) in enumerate(found)
    ]
    stopped = trials[0] | {"number": 3, "state": "stopped"}
    space = {"lr": "0.0001..0.01:log", "clip": "[null, 0.5, 1.0]", "beta": "1..5"}
    objectives = [{"name": "score", "unit": "", "better": "lower"}]
    content = {"trials": [*trials, stopped], "space": space, "objectives": objectives, "best": 1}
    draw_parallel(content, tmp_path / "parallel.png")
    (axes,) = kept[0].axes
    lines = [y for line in axes.lines if len(y := np.asarray(line.get_ydata())) == 4]
    nan = math.nan
    expected = [[0.5, 0.0, nan, 1.0], [1.0, 0.5, 0.5, 0.0], [nan, 1.0, 0.0, 0.5]]
    assert np.allclose(np.array(lines), np.array(expected), equal_nan=True)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lr", "clip", "beta", "score"]
    assert {"none", "0.5", "1.0", "0.0001", "0.01", "1", "5", "2"} <= {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_shown_with_every_claim_and_a_verdict_in_words(made: Made, name: str) -> None:
    content = json.loads((RESULTS[name] / "results.json").read_text())
    page = made.parsed(name)
    shown = {(row[1], row[0], row[2]) for row in page.rows if len(row) == 6}
    for claim in content["claims"]:
        verdict = "no interval" if None in claim["interval"] else "met" if claim["met"] else "not met"
        assert (claim["claim"], verdict, cell(claim["measured"])) in shown
    assert len(page.all("figure")) == len(list(RESULTS[name].glob("*.png")))
    # All are drawn anew, but for two figures of sweeps whose own results are elsewhere.
    assert len(page.all("img")) == (2 if name == "tuning" else 0)
    assert all(version in page.text for version in content["versions"].values())


def test_a_claim_without_an_interval_is_neither_met_nor_not(tmp_path: Path) -> None:
    content = json.loads((RESULTS["fedmorl-demo"] / "results.json").read_text())
    content["claims"] = [content["claims"][0] | {"interval": [None, None]}]
    (tmp_path / "results.json").write_text(json.dumps(content))
    page = Parsed(build(tmp_path))
    assert "1 claims: 1 no interval." in page.text
    assert any(row[0] == "no interval" for row in page.rows)


def test_the_command_of_a_run_is_the_run(trained: Path, made: Made) -> None:
    given, run = parameters(command_in(made.parsed("trained"))), read_run(trained)
    assert (given["algorithm"], given["env"], str(given["data"])) == (run.algorithm, run.env, run.data)
    assert key_values(given["settings"], "--set") == run.settings
    assert key_values(given["config"], "--config") == run.env_config
    assert (given["iterations"], given["seed"]) == (2, run.seed)


def test_the_command_of_a_sweep_is_the_sweep(swept: Path, made: Made) -> None:
    given = parameters(command_in(made.parsed("swept")))
    sweep, trials = read_sweep(swept)
    assert (given["algorithm"], given["env"], str(given["data"])) == (sweep.algorithm, sweep.env, sweep.data)
    assert key_values(given["settings"], "--set") == sweep.settings
    assert dict(item.split("=", 1) for item in given["search"]) == sweep.search
    assert (given["trials"], given["iterations"], given["seeds"]) == (trials, sweep.iterations, sweep.seeds)


def test_the_command_of_a_data_set_collects_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    policies = ["--policy", "csma_ca:3", "--policy", "csma_eca", "-s", "csma_ca.cw_min=15"]
    collect = ["collect", "channel_access", "-c", "num_stations=3", "-c", "d2lt=local", *policies, "--seed", "7"]
    assert run_command([*collect, "--steps", "400", "--num-envs", "4", "--out", "first/data"]) == 0
    assert run_command(command_in(Parsed(build("first/data")))) == 0
    assert [f.sha256 for f in read_card("data").files] == [f.sha256 for f in read_card("first/data").files]


# ------------------------------------------------------------------------------------------------ the command


def test_the_page_lies_in_the_folder_unless_told(
    csma_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(csma_data, folder)
    assert run_command(["report", str(folder), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told == {"out": str(folder / "report.html"), "bytes": (folder / "report.html").stat().st_size}
    assert run_command(["report", str(folder), "--out", str(tmp_path / "new/page.html")]) == 0
    assert Parsed((tmp_path / "new/page.html").read_text()).text.startswith("Data set data: channel_access")


def test_it_is_opened_where_there_is_a_browser(
    csma_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)  # returns None, as a machine without a browser returns False
    out = tmp_path / "page.html"
    assert run_command(["report", str(csma_data), "--out", str(out), "--open"]) == 0
    assert opened == [out.as_uri()]
    assert "there is no browser to open it with" in capfd.readouterr().err


def test_what_cannot_be_reported_is_told(tmp_path: Path, csma_data: Path) -> None:
    with pytest.raises(UserError, match=r"holds nothing .* it may be a training run \(run.yaml\), a sweep"):
        build(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        build(tmp_path / "nowhere")
    with pytest.raises(UserError, match="that is a folder"):
        report(csma_data, tmp_path)
    content = json.loads((RESULTS["fedmorl-demo"] / "results.json").read_text())
    for wrong, words in (
        ({"paper": "experiment"}, "but papers are ctde_cql, dcc, fedmorl"),  # a module, but no paper
        ({"paper": "os"}, "but papers are"),
        ({"paper": ["fedmorl"]}, "but papers are"),
        ({"claims": [{}]}, "looks like a paper's results, but its files are not what this version writes: KeyError"),
        ({"policies": 3}, "not what this version writes"),
    ):
        (tmp_path / "results.json").write_text(json.dumps(content | wrong))
        with pytest.raises(UserError, match=words):
            build(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        build(tmp_path)


def test_a_run_that_only_began_and_whose_data_are_gone_is_shown(tmp_path: Path, trained: Path) -> None:
    content = yaml.safe_load((trained / "run.yaml").read_text())
    content["data"] = str(tmp_path / "gone")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    text = Parsed(build(tmp_path)).text
    assert "No iteration has ended yet." in text and "The run has no policy yet." in text
    assert "The data set cannot be shown: " in text


# ------------------------------------------------------------------------------------------------ in a browser

_LOOK = """() => {
  const channels = color => (color.match(/[\\d.]+/g) || []).map(Number);
  const luminance = rgb => rgb.slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const found = channels(getComputedStyle(element).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  document.querySelectorAll("details").forEach(details => details.open = true);
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    if (!node.textContent.trim()) continue;
    const style = getComputedStyle(node.parentElement);
    const color = channels(node.parentElement.closest("svg") ? style.fill : style.color);
    const [dark, light] = [luminance(color), luminance(ground(node.parentElement))].sort((a, b) => a - b);
    texts.push([(light + 0.05) / (dark + 0.05), node.textContent.trim()]);
  }
  const smallest = Math.min(...[...document.querySelectorAll("svg text")].map(t => t.getBoundingClientRect().height));
  return {width: document.documentElement.scrollWidth, inner: innerWidth, texts, smallest,
          page: luminance(channels(getComputedStyle(document.body).backgroundColor))};
}"""


def browser_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def a_browser() -> Iterator["Browser"]:
    """Chromium. What drives it has an event loop, which others should not meet, so it is not a fixture."""
    path = browser_path()
    if path is None and not os.environ.get("REQUIRE_BROWSER"):
        pytest.skip("there is no Chromium here; REQUIRE_BROWSER=1 makes this an error")
    assert path is not None, "REQUIRE_BROWSER is set, but there is no Chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    "names", [pytest.param(["trained", "swept"], marks=pytest.mark.ray), ["csma_data", *RESULTS]], ids=["ray", "others"]
)
def test_a_browser_shows_it_in_light_and_dark_on_a_screen_and_on_a_phone(made: Made, names: list[str]) -> None:
    pages = [made.page(name) for name in names]
    with a_browser() as browser:
        for page in pages:
            shots = [look(browser, page, "light", width) for width in (1280, 360)]
            assert [look(browser, page, "dark", width) for width in (1280, 360)] != shots


def look(browser: "Browser", path: Path, scheme: Literal["light", "dark"], width: int) -> bytes:
    """Check how a page is shown; returns its picture."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    shot = page.screenshot()
    seen = page.evaluate(_LOOK)
    page.close()
    where = (path.name, scheme, width)
    assert told == [], where
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()], where
    assert seen["width"] <= seen["inner"] == width, where
    assert (seen["page"] > 0.5) == (scheme == "light"), where
    assert len(seen["texts"]) > 50 and min(seen["texts"])[0] >= 4.5, (*where, min(seen["texts"]))
    assert seen["smallest"] is None or seen["smallest"] > 5, where
    return shot
