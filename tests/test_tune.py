"""Sweeps: search spaces, Optuna's study as the one record, trials that fail, and a sweep that is killed and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from rllib_wireless.algorithms.registry import VARIANTS, algorithm_names, algorithm_spec
from rllib_wireless.algorithms.run import read_lines, read_run
from rllib_wireless.cli import run as command
from rllib_wireless.envs import env_names, env_spec
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.tuning.report import best_of, pareto_front
from rllib_wireless.tuning.search import ERROR, SETTINGS, TRIAL, StudySearch, new_sampler, open_storage, open_study
from rllib_wireless.tuning.settings import Sweep, read_sweep
from rllib_wireless.tuning.spaces import SPACES, Choice, Domain, Range, defaults_in, parse_domain, space_of
from rllib_wireless.tuning.sweep import tune
from rllib_wireless.tuning.trial import Task, Trial

ENV = {"num_stations": 3}
SMALL = {"dataset_num_iters_per_learner": 10, "evaluation_duration": 800, "num_envs_per_env_runner": 8}


def opened(path: Path) -> optuna.Study:
    """The study in a sweep's folder, opened by Optuna alone."""
    backend = optuna.storages.journal.JournalFileBackend(str(path / "study.journal"))
    return optuna.load_study(study_name=path.name, storage=optuna.storages.JournalStorage(backend))


# ------------------------------------------------------------------------------------------------ spaces


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_has_a_space_of_settings_and_values_that_it_has(name: str) -> None:
    spec, space = algorithm_spec(name), SPACES[name]
    fields = {f.name for f in spec.settings}
    for setting, domain in space.items():
        assert setting in fields
        for other, values in domain.when.items():
            assert other in fields
            for value in values:
                spec.config().training(**{other: value}).parsed()
        for value in domain.examples():
            given = {other: values[0] for other, values in domain.when.items()}
            assert getattr(spec.config().training(**given, **{setting: value}).parsed(), setting) == value
    assert set(defaults_in(spec, space)) == set(space), "the defaults are the first configuration that a sweep tries"


@pytest.mark.parametrize("name", env_names())
def test_every_environment_says_what_sweeps_optimise_and_how_they_validate(name: str) -> None:
    spec = env_spec(name)
    assert spec.objectives and set(spec.objectives) <= {metric.name for metric in spec.metrics}
    spec.config.parse(spec.validation)


def test_domains_are_read_and_shown_alike() -> None:
    for text, domain in {
        "0.0001..0.01:log": Range(0.0001, 0.01, log=True),
        "2..8": Range(2, 8),
        "-2..0.5": Range(-2, 0.5),
        '["a", null, [64, 64]]': Choice(("a", None, (64, 64))),
    }.items():
        assert parse_domain("x", text) == domain
        assert parse_domain("x", str(domain)) == domain
    for wrong in ("3..2", "0..1:log", "1e-4", "a..b", "[]", "[1"):
        with pytest.raises(UserError, match="--search x="):
            parse_domain("x", wrong)


def test_what_is_fixed_or_makes_a_variant_is_not_searched() -> None:
    ctde = algorithm_spec("ctde_cql")
    assert "lr" not in space_of(ctde, {"lr": 1e-3}, {})
    assert "target_entropy" in space_of(ctde, {}, {}) and "target_entropy" not in space_of(
        ctde, {"backbone": "dqn"}, {}
    )
    assert set(space_of(ctde, {}, {"learning_starts": Range(10, 20)})) == {*space_of(ctde, {}, {}), "learning_starts"}
    for name in VARIANTS:
        assert not set(space_of(algorithm_spec(name), {}, {})) & set(algorithm_spec(name).defaults)
    with pytest.raises(UserError, match="--set fixes it"):
        space_of(ctde, {"lr": 1e-3}, {"lr": Range(1e-4, 1e-3)})
    with pytest.raises(ConfigError, match="lr = 2"):
        space_of(ctde, {}, {"lr": Range(0.1, 2.0)})
    with pytest.raises(ConfigError, match="no such field"):
        space_of(ctde, {}, {"lrr": Range(0.1, 2.0)})


# ------------------------------------------------------------------------------------------------ the study


METRIC = env_spec("radio_resource").metrics[3:4]
SPACE: dict[str, Domain] = {"lr": Range(1e-4, 1e-2, log=True), "hiddens": Choice(((64, 64), (128, 128)))}


def searching(out: Path) -> StudySearch:
    study = open_study(open_storage(None, out), out.name, METRIC)
    return StudySearch(study, SPACE, METRIC, new_sampler(0, len(study.trials), 12, 1))


def ended(value: float, iteration: int = 3, finished: bool = True) -> dict[str, Any]:
    return {"score": value, "iteration": iteration, "finished": finished}


def test_a_study_goes_on_with_the_trial_that_was_interrupted(tmp_path: Path) -> None:
    first = searching(tmp_path)
    begun = [first.suggest(name) for name in "abcd"]
    first.on_trial_complete("a", ended(1.0))
    first.on_trial_result("b", ended(0.5, 1, False))
    first.on_trial_complete("b", ended(0.4, 2, False))
    first.on_trial_complete("c", {ERROR: "training has diverged"})
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    assert tuple(t.state for t in opened(tmp_path).trials) == states

    second = searching(tmp_path)
    assert second.suggest("x") == begun[3], "the same number and the same settings"
    new = second.suggest("y")
    assert new is not None and new[TRIAL] == 4
    second.on_trial_complete("x", ended(2.0))
    study = opened(tmp_path)
    assert [t.state for t in study.trials] == [*states[:3], TrialState.COMPLETE, TrialState.RUNNING]
    assert study.trials[1].intermediate_values == {1: 0.5, 2: 0.4}
    assert study.trials[2].user_attrs[ERROR] == "training has diverged"
    assert study.best_value == 2.0


def test_a_sampler_that_goes_on_does_not_draw_again_what_it_drew_first(tmp_path: Path) -> None:
    first = searching(tmp_path)
    drawn = [first.suggest(name) for name in "ab"]
    for name in "ab":
        first.on_trial_complete(name, ended(1.0))
    second = searching(tmp_path)
    again = [second.suggest(name) for name in "ab"]
    assert [s[SETTINGS] for s in drawn if s] != [s[SETTINGS] for s in again if s]


def test_a_trial_that_was_killed_while_it_was_drawn_is_given_up(tmp_path: Path) -> None:
    study = open_study(open_storage(None, tmp_path), tmp_path.name, METRIC)
    study.ask({"lr": SPACE["lr"].distribution()})
    searching(tmp_path)
    assert [t.state for t in opened(tmp_path).trials] == [TrialState.FAIL]


def test_half_a_line_of_a_journal_is_no_hindrance(tmp_path: Path) -> None:
    search = searching(tmp_path)
    search.suggest("a")
    search.on_trial_complete("a", ended(1.0))
    with (tmp_path / "study.journal").open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    again = searching(tmp_path)
    again.suggest("b")
    again.on_trial_complete("b", ended(3.0))
    assert opened(tmp_path).best_value == 3.0


def test_the_front_is_what_no_other_trial_beats_and_the_best_of_it_is_good_in_both() -> None:
    metrics = [m for m in env_spec("channel_access").metrics if m.name in ("throughput_ratio", "mean_delay_ms")]
    values = [(0.9, 50.0), (0.5, 10.0), (0.8, 15.0), (0.8, 20.0), (0.4, 60.0)]
    trials: Any = [SimpleNamespace(number=k, values=v) for k, v in enumerate(values)]
    front = pareto_front(trials, metrics)
    assert [t.number for t in front] == [0, 2, 1]
    assert best_of(trials, front, metrics).number == 2


# ------------------------------------------------------------------------------------------------ a trial


def task_of(folder: Path, data: Path, **changes: Any) -> Task:
    given: dict[str, Any] = {
        "algorithm": "bc", "env": "channel_access", "env_config": ENV, "data": str(data), "settings": {**SMALL, "evaluation_interval": 1},
        "seeds": (0, 1), "iterations": 2, "metrics": ("throughput_ratio",), "select": "online", "select_data": str(data),
        "method": "fqe", "estimate_settings": {}, "every": 1, "folder": str(folder),
    }  # fmt: skip
    return Task(**{**given, **changes})


@pytest.fixture
def started() -> Iterator[Any]:
    """Makes trials in this process."""
    trials: list[Trial] = []

    def start(task: Task, number: int = 0, **settings: Any) -> Trial:
        class Here(Trial):
            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                super().setup(config, task)

        trials.append(Here({TRIAL: number, SETTINGS: settings}))
        return trials[-1]

    yield start
    for trial in trials:
        trial.stop()


def test_a_trial_reports_the_mean_over_its_seeds_and_goes_on_from_its_folder(
    started: Any, csma_data: Path, tmp_path: Path
) -> None:
    whole = started(task_of(tmp_path / "whole", csma_data), lr=1e-3)
    rows = [whole.train() for _ in range(2)]
    assert [row["done"] for row in rows] == [False, True]
    for row in rows:
        assert len(set(row["seeds"]["throughput_ratio"])) == 2
        assert row["throughput_ratio"] == pytest.approx(sum(row["seeds"]["throughput_ratio"]) / 2)
        assert 0 < row["seconds"]["train"] + row["seconds"]["evaluate"] < row["seconds"]["step"]

    task = task_of(tmp_path / "cut", csma_data)
    started(task, lr=1e-3).train()
    # A process that is lost after one seed is ahead of the other.
    ahead = started(task, lr=1e-3)
    ahead._open()
    ahead._trainings[0].step()
    resumed = started(task, lr=1e-3)
    last = resumed.train()
    assert last["done"] and last["seeds"] == rows[1]["seeds"]
    assert [line["iteration"] for line in read_lines(task.folder_of(0))] == [1, 2]
    assert started(task, lr=1e-3).train()["seeds"] == rows[1]["seeds"], "one that was done says so again"
    assert len(read_lines(task.folder_of(0))) == 2


def test_a_trial_whose_metric_is_not_a_number_fails_and_its_process_takes_the_next(
    started: Any, csma_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rllib_wireless.algorithms.evaluation import EvaluationRunners

    task = task_of(tmp_path, csma_data, seeds=(0,))
    trial = started(task, lr=1e-3)
    with monkeypatch.context() as patch:
        patch.setattr(EvaluationRunners, "evaluate", lambda self, policy: {"throughput_ratio": float("nan")})
        row = trial.train()
    assert row["done"] and row[ERROR] == "throughput_ratio is not a number after iteration 1 with seed 0"
    assert "UserError" in (task.folder_of(0) / "error.txt").read_text()
    assert trial.reset({TRIAL: 1, SETTINGS: {"lr": -1.0}})
    row = trial.train()
    assert row["done"] and "lr = -1.0" in row[ERROR]
    assert trial.reset({TRIAL: 2, SETTINGS: {"lr": 1e-3}})
    assert trial.train()["throughput_ratio"] > 0.0


def test_a_trial_asks_for_the_actors_of_all_its_seeds(csma_clients: Path, tmp_path: Path) -> None:
    task = task_of(tmp_path, csma_clients, algorithm="fedmorl", settings={"num_client_actors": 2}, seeds=(0, 1, 2))
    assert [bundle["CPU"] for bundle in task.resources().bundles] == [1.0] * (1 + 2 * 3)


def test_offline_a_policy_is_worth_what_is_estimated_and_nothing_is_simulated(
    started: Any, csma_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rllib_wireless.algorithms.evaluation import EvaluationRunners

    asked: list[tuple[Path, str, str]] = []

    def estimate(policy: Path, data: str, *, method: str, seed: int, behaviour: str) -> Any:
        assert behaviour == "fit" and (policy / "policy.json").exists()
        asked.append((policy, data, method))
        return SimpleNamespace(value=float(len(asked)))

    monkeypatch.setattr("rllib_wireless.tuning.estimate", estimate)
    monkeypatch.setattr(EvaluationRunners, "__init__", lambda self, config: pytest.fail("a policy was simulated"))
    changes: dict[str, Any] = {
        "select": "offline",
        "metrics": ("estimate",),
        "every": None,
        "settings": SMALL,
        "method": "importance",
    }
    changes["estimate_settings"] = {"behaviour": "fit"}
    task = task_of(tmp_path, csma_data, **changes)
    row = started(task, lr=1e-3).train()
    assert row["done"] and row["estimate"] == 1.5 and row["seeds"] == {"estimate": [1.0, 2.0]}
    assert asked == [(task.folder_of(0) / f"seed_{seed}" / "policy", str(csma_data), "importance") for seed in (0, 1)]


# ------------------------------------------------------------------------------------------------ sweeps


def test_a_sweep_is_a_study_that_optuna_opens(swept: Path) -> None:
    study = opened(swept)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 5
    assert study.metric_names == list(env_spec("channel_access").objectives)
    content = json.loads((swept / "results.json").read_text())
    assert [t["number"] for t in content["trials"]] == [0, 1, 2, 3, 4]
    for trial, known in zip(content["trials"], study.trials, strict=True):
        assert list(trial["values"].values()) == pytest.approx(known.values)
        assert [len(values) for values in trial["seeds"].values()] == [2, 2]
        assert trial["iterations"] == 2
    assert set(content["front"]) == {t.number for t in study.best_trials}
    assert content["best"] in content["front"]


def test_the_first_trial_is_the_defaults(swept: Path) -> None:
    first = json.loads((swept / "results.json").read_text())["trials"][0]
    known = {f.name: f.default for f in algorithm_spec("bc").settings}
    assert first["defaults"]
    assert first["settings"] == {name: json.loads(json.dumps(known[name])) for name in first["settings"]}


def test_the_best_configuration_is_a_run_that_train_takes_and_that_gives_what_the_sweep_had(
    swept: Path, tmp_path: Path
) -> None:
    content = json.loads((swept / "results.json").read_text())
    best = content["trials"][content["best"]]
    run = read_run(swept / "best")
    assert run.seed == 7 and run.iterations == 2
    assert {name: run.settings[name] for name in best["settings"]} == best["settings"]
    assert command(["train", "--run", str(swept / "best/run.yaml"), "--out", str(tmp_path / "run")]) == 0
    last = json.loads((tmp_path / "run/progress.jsonl").read_text().splitlines()[-1])
    for metric, seeds in best["seeds"].items():
        assert last["evaluation"]["env_runners"][metric] == seeds[0]
    assert {p.name for p in (swept / "best").iterdir()} == {"run.yaml", "policy_seed_7", "policy_seed_8"}
    assert {p.name for p in (swept / "front").iterdir()} == {f"t{number:04d}" for number in content["front"]}


def test_a_sweep_draws_what_it_found(swept: Path) -> None:
    for name in ("history", "importance", "pareto"):
        assert (swept / f"{name}.png").stat().st_size > 8_000, name


def test_names_are_short_and_ray_tune_writes_its_own_table(swept: Path) -> None:
    names = {p.name for p in (swept / "tune").iterdir() if p.is_dir()}
    assert names == {f"t{number:04d}" for number in range(5)}
    for name in names:
        assert (swept / "tune" / name / "result.json").exists()
        assert list((swept / "tune" / name).glob("events.out.tfevents.*"))


def test_a_folder_holds_one_sweep(swept: Path, csma_data: Path) -> None:
    with pytest.raises(UserError, match="holds a sweep already: give --resume"):
        tune("bc", "channel_access", out=swept, trials=6, data=csma_data)
    with pytest.raises(UserError, match="holds a sweep with iterations = 2, not None"):
        tune(
            "bc", "channel_access", out=swept, trials=6, data=csma_data, env_config=ENV, settings=SMALL, seeds=2, seed=7,
            search=read_sweep(swept)[0].search, resume=True,
        )  # fmt: skip


def test_a_bad_configuration_does_not_end_a_sweep_but_if_all_are_bad_the_first_error_does(
    csma_data: Path, tmp_path: Path, ray_session: None
) -> None:
    bad = {"num_critics": "[1, 2]"}
    fixed = {**SMALL, "paradigm": "independent", "max_joint_actions": 2, "train_batch_size_per_learner": 32}
    fixed |= {"lr": 1e-3, "cql_alpha": 1.0, "gamma": 0.5, "tau": 0.01, "reward_scale": 1.0, "grad_clip": 1.0}
    fixed |= {"target_entropy": 0.3, "fcnet_hiddens": [16]}
    given: dict[str, Any] = {"data": csma_data, "env_config": ENV, "iterations": 1, "concurrent": 2}
    given["metrics"] = ["throughput_ratio"]
    search = {**bad, "mixer": '["sum", "monotonic"]'}  # the monotonic one needs another paradigm
    content = tune(
        "ctde_cql", "channel_access", out=tmp_path / "some", trials=5, settings=fixed, search=search, **given
    )
    for trial in content["trials"]:
        assert trial["state"] == ("failed" if trial["settings"]["mixer"] == "monotonic" else "done")
        assert (trial["error"] is None) == (trial["state"] == "done")
    assert {trial["state"] for trial in content["trials"]} == {"failed", "done"}
    search = {**bad, "mixer": '["monotonic"]'}
    with pytest.raises(UserError, match=r"all 2 trials failed; the first one: .*mixer = 'monotonic' needs paradigm"):
        tune("ctde_cql", "channel_access", out=tmp_path / "all", trials=2, settings=fixed, search=search, **given)


def test_wrong_questions_are_told_before_anything_is_written(csma_data: Path, tmp_path: Path) -> None:
    def ask(**changes: Any) -> None:
        given: dict[str, Any] = {"out": tmp_path / "sweep", "trials": 2, "data": csma_data, "env_config": ENV}
        tune("bc", "channel_access", **{**given, **changes})

    wrong: dict[str, dict[str, Any]] = {
        "has no metric 'speed'": {"metrics": ["speed"]},
        "compares one metric": {"scheduler": "asha"},
        "trials = 0": {"trials": 0},
        "seeds = 0": {"seeds": 0},
        "lrr = 1": {"settings": {"lrr": 1}},
        "should be low": {"search": {"lr": "1e-3"}},
        "num_stations = 0": {"env_config": {"num_stations": 0}},
        "input_ = None": {"data": None},
        "--select offline needs data": {"data": None, "select": "offline"},
    }
    for words, changes in wrong.items():
        with pytest.raises(UserError, match=words):
            ask(**changes)
    assert not (tmp_path / "sweep").exists()


def test_sweeps_measure_on_no_drop_that_results_are_measured_on() -> None:
    task = Sweep("ctde_cql", "radio_resource", data="somewhere").task(Path("sweep"))
    config = task.run({}, 0).config(Path("run")).get_evaluation_config_object()
    assert config.env_config["split"] == "validation"
    assert config.evaluation_duration_unit == "episodes"


@pytest.mark.slow
def test_a_killed_sweep_repeats_no_trial_that_was_done(csma_data: Path, tmp_path: Path) -> None:
    """kill -9 of the driver and of all its workers, twice; what was done stays as it was, and the rest is done once."""
    out, trials = tmp_path / "bc", 6
    known: dict[int, Any] = {}
    for kill_after in (1, 3, None):
        script = KILLED.format(data=str(csma_data), out=str(out), trials=trials)
        process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
        while process.poll() is None:
            time.sleep(0.05)
            if kill_after is not None and len(done_in(out)) >= kill_after:
                running = [t for t in opened(out).trials if t.state == TrialState.RUNNING]
                if any(read_lines(out / "trials" / f"t{t.number:04d}") for t in running):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        for number, trial in known.items():
            assert done_in(out)[number] == trial
        known = done_in(out)
        if kill_after is None:
            assert process.returncode == 0
        else:
            assert len(known) < trials
    study = opened(out)
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert [t.number for t in study.trials] == list(range(trials))
    for number in range(trials):
        iterations = [line["iteration"] for line in read_lines(out / f"trials/t{number:04d}")]
        assert iterations == list(range(1, len(iterations) + 1)), "none was measured twice"


KILLED = """
from rllib_wireless.tuning.sweep import tune
tune("bc", "channel_access", out={out!r}, trials={trials}, data={data!r}, env_config=dict(num_stations=3), iterations=30,
     settings=dict(dataset_num_iters_per_learner=100, evaluation_duration=800, num_envs_per_env_runner=8),
     metrics=["throughput_ratio"], resume=True, concurrent=2)
"""


def done_in(out: Path) -> dict[int, Any]:
    """Trials that have ended, by number."""
    if not (out / "study.journal").exists():
        return {}
    ended = [t for t in opened(out).trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return {t.number: (t.state, t.params, t.value, t.datetime_start, t.datetime_complete) for t in ended}


def test_settings_of_a_sweep_are_kept_whole(tmp_path: Path) -> None:
    sweep = Sweep("bc", "channel_access", data="d", metrics=("throughput_ratio",), search={"lr": "1e-4..1e-2:log"})
    sweep.save(tmp_path, 7)
    assert read_sweep(tmp_path) == (sweep, 7)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"trials": 2, "unknown": 1}))
    with pytest.raises(UserError, match="is not what this version writes"):
        read_sweep(tmp_path)


@pytest.mark.slow
def test_wandb_holds_a_run_for_each_trial_and_one_for_the_sweep(
    csma_data: Path, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_tracking import history, records

    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "bc"
    given: dict[str, Any] = {"env_config": ENV, "settings": SMALL, "iterations": 2, "metrics": ["throughput_ratio"]}
    content = tune("bc", "channel_access", out=out, trials=2, data=csma_data, wandb="offline", concurrent=2, **given)
    runs = {record.run.display_name: record.run for record in records(out) if record.HasField("run")}
    assert set(runs) == {"t0000", "t0001", "bc"}
    assert {run.run_group for run in runs.values()} == {"bc"}
    for trial in content["trials"]:
        config = {item.key: json.loads(item.value_json) for item in runs[f"t{trial['number']:04d}"].config.update}
        assert {name: config[name] for name in trial["settings"]} == trial["settings"]
        assert config["algorithm"] == "bc" and len(config["data_sha256"]) == 64
        told = [row["throughput_ratio"] for row in history(out) if "throughput_ratio" in row]
        assert trial["values"]["throughput_ratio"] in told
    assert any("learners/agents/loss" in row for row in history(out))
    artifacts = {record.artifact.name for record in records(out) if record.HasField("artifact")}
    assert artifacts == {"policy-t0000-seed_0", "policy-t0001-seed_0", "best-bc"}
