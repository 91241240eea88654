"""What sweeps are worth: a sweep in small, and what it found on new logs."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from rllib_wireless.papers import tuning
from rllib_wireless.papers.learning import Test
from rllib_wireless.papers.resumable import reproduce
from rllib_wireless.papers.tuning import learning
from rllib_wireless.papers.tuning.setup import DEMO, PAPER, SEARCHES, Scale, Search

TINY = Scale("tiny", {"bc": 2}, {"bc": 1}, test_seeds=2)
BC = Search(
    "bc",
    "radio_resource",
    {"num_users": 8, "episode_slots": 10, "warmup_slots": 5, "split": "train"},
    "random",
    400,
    ("score",),
    Test(copies=4, steps=None),
    {"split": "test"},
    {"dataset_num_iters_per_learner": 5, "evaluation_duration": 4, "num_envs_per_env_runner": 4},
)


def test_found_settings_and_defaults_meet_the_same_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    searches = {"bc": BC}
    for module in (tuning, learning):
        monkeypatch.setattr(module, "SEARCHES", searches)
    result = learning.sweep_and_test(TINY, "bc", tmp_path, lambda name, share: None)
    assert len(result["test"]) == 2 and result["sweep"]["trials"] == 2
    assert result["validation"]["tuned"]["score"] >= result["validation"]["defaults"]["score"]
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "bc.json").write_bytes(orjson.dumps({**result, "seconds": 1.0}))
    (tmp_path / "settings.json").write_bytes(orjson.dumps(TINY.describe()))
    notes: list[str] = []
    content: dict[str, Any] = reproduce(
        tuning.experiment(TINY), tmp_path, notes.append, only=None, workers=1, plot_only=False
    )
    (claim,) = content["claims"]
    tuned, defaults = ([seed[arm]["score"] for seed in result["test"]] for arm in ("tuned", "defaults"))
    assert claim["measured"] == pytest.approx(sum(a - b for a, b in zip(tuned, defaults, strict=True)) / 2)
    assert [row["policy"] for row in tuning.table(content)] == ["bc, defaults: score", "bc, tuned: score"]


@pytest.mark.parametrize("scale", [PAPER, DEMO], ids=lambda s: s.name)
def test_every_search_has_its_trials(scale: Scale) -> None:
    assert set(scale.trials) == set(scale.iterations) == set(SEARCHES)
    assert min(scale.trials.values()) >= 2 and scale.test_seeds >= 2
