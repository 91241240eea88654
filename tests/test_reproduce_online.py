"""From offline to online, in small: what was in use, what was tried, and claims that follow from both."""

import dataclasses
from pathlib import Path

import pytest

from rllib_wireless.papers import online
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.learning import Test as Measurement
from rllib_wireless.papers.online import learning
from rllib_wireless.papers.online.setup import DEMO, PAPER, WORLDS, Scale
from rllib_wireless.papers.resumable import reproduce

TINY = Scale("tiny", ("radio",), num_seeds=2, deployments=2, steps=300)
SMALL = dataclasses.replace(
    WORLDS["radio"],
    env_config={"split": "train", "num_access_points": 2, "num_users": 6, "top_users": 2},
    test=Measurement(copies=8, steps=None),
    settings={**WORLDS["radio"].settings, "dataset_num_iters_per_learner": 20, "fcnet_hiddens": [8]},
    online={"test_copies": 8},
    iterations=1,
)


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Json:
    for module in (online, learning):
        monkeypatch.setattr(module, "WORLDS", {"radio": SMALL})
    experiment = online.experiment(TINY)
    # Processes of their own would not know what was put in WORLDS' place.
    results = {cell.name: {**cell.run(tmp_path, lambda name, share: None), "seconds": 1.0} for cell in experiment.cells}
    claims, tables = experiment.summarise(results)
    assert not list((tmp_path / "work").glob("*"))
    return {"claims": [dataclasses.asdict(claim) for claim in claims], "results": results, **tables}


def test_claims_follow_from_what_was_in_use(content: Json, tmp_path: Path) -> None:
    curves = content["curves"]["radio"]
    assert len(curves["in_use"]) == 3 and len(curves["candidates"]) == 2
    better, never_below = content["claims"]
    by_seed = [[point["score"]["values"][k] for point in curves["in_use"]] for k in range(2)]
    assert better["measured"] == pytest.approx(sum(seed[-1] - seed[0] for seed in by_seed) / 2)
    assert never_below["measured"] == pytest.approx(sum(min(seed) - seed[0] for seed in by_seed) / 2)
    for seed, accepted in enumerate(curves["accepted"]):
        for number, taken in enumerate(accepted):
            then = curves["candidates" if taken else "in_use"][number]["score"]["values"][seed]
            assert curves["in_use"][number + 1]["score"]["values"][seed] == then
    (row,) = online.table(content)
    assert row["policy"] == "CTDE-CQL, access points: score" and row["online"]["n"] == 2
    settings = {"worlds": {"radio": {"label": "radio", "metrics": SMALL.metrics}}}
    online.draw({**content, "settings": settings}, tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("scale", [PAPER, DEMO], ids=lambda s: s.name)
def test_every_world_and_seed_has_its_cell(scale: Scale) -> None:
    cells = online.experiment(scale).cells
    assert len({cell.name for cell in cells}) == len(scale.worlds) * scale.num_seeds
    assert set(scale.worlds) <= set(WORLDS) and scale.num_seeds > 1


def test_an_unknown_cell_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no cell 'moon'; cells are radio_0"):
        reproduce(online.experiment(DEMO), tmp_path, print, only="moon", workers=1, plot_only=False)
