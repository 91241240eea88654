"""Exported policies as files: what they say of themselves, how they are made and refused, and their use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from random_policies import MAKERS, joint_policy, law_of, names, network, network_policy, step_of, table_policy
from toy_env import SPEC

from rllib_wireless.algorithms.training import train
from rllib_wireless.cli import run as command
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.envs import StepRandom, make_env, registry
from rllib_wireless.envs.base import ObsField
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies import NetworkPolicy, PortablePolicy, load_policy, save_policy
from rllib_wireless.policies.onnx import check, export_onnx
from rllib_wireless.policies.onnx.kinds import KINDS
from rllib_wireless.policies.portable import _KINDS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/deploy_station.py"
Choices = dict[str, Any]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "toy", SPEC)


# ------------------------------------------------------------------------------------------------ files


def saved(path: Path, policy: PortablePolicy | None = None) -> Path:
    policy = policy or NetworkPolicy(network(np.random.default_rng(0), 2, 4, 8, 3), names(2), epsilon=0.1)
    save_policy(policy, path, env="toy", env_config={})
    return path


@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_files_say_what_they_are(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "policy", MAKERS[kind](np.random.default_rng(3), 2, 4, 3))
    centralized = load_policy(path).centralized
    files = export_onnx(path, tmp_path / "out")
    assert [f.agent for f in files] == (["team"] if centralized else ["agent_0", "agent_1"])
    for file in files:
        model = onnx.load(file.file)
        onnx.checker.check_model(model, full_check=True)
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(told["agents"]) == (["agent_0", "agent_1"] if centralized else [file.agent])
        assert (told["kind"], told["env"], len(told["source_sha256"])) == (kind, "toy", 64)
        assert [f["name"] for f in json.loads(told["obs_fields"])] == ["parity", "time", "last"]
        run = onnxruntime.InferenceSession(file.file)
        team = [2] if centralized else []
        law = {"joint_network": [9]}.get(kind, [*team, 3])
        assert [(i.name, i.type, i.shape) for i in (*run.get_inputs(), *run.get_outputs())] == [
            ("obs", "tensor(float)", ["batch", *team, 4]),
            ("action_mask", "tensor(bool)", ["batch", *team, 3]),
            ("probabilities", "tensor(float)", ["batch", *law]),
            ("action", "tensor(int64)", ["batch", *team]),
        ]
        assert file.kilobytes == file.file.stat().st_size / 1000
        assert file.largest_difference < 1e-5 and min(file.microseconds, file.microseconds_batched) > 0


def test_mode_and_share_can_be_chosen(tmp_path: Path) -> None:
    (file,) = export_onnx(saved(tmp_path / "policy"), tmp_path, agent="agent_1", mode="greedy", epsilon=0.0)
    inputs = {"obs": np.zeros((1, 4), np.float32), "action_mask": np.ones((1, 3), np.bool_)}
    (law,) = onnxruntime.InferenceSession(file.file).run(["probabilities"], inputs)
    assert sorted(law[0]) == [0, 0, 1] and not (tmp_path / "agent_0.onnx").exists()


def test_a_file_that_is_not_the_policy_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raised(g: Any, policy: PortablePolicy, extra: dict[str, Any], tensors: Any) -> Any:
        last = max(name for name in tensors if name.endswith("bias"))
        return KINDS["trusted"].build(
            g, policy, extra, {**tensors, last: tensors[last] + np.eye(3, dtype=np.float32)[1]}
        )

    monkeypatch.setitem(KINDS, "trusted", KINDS["network"])
    monkeypatch.setitem(KINDS, "network", KINDS["network"]._replace(build=raised))
    with pytest.raises(UserError, match="agent_0: probabilities of the file differ by"):
        export_onnx(saved(tmp_path / "policy"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_random_inputs_lie_in_the_ranges_of_their_fields() -> None:
    policy = network_policy(np.random.default_rng(0), 2, 5, 3)
    policy.obs_fields = (
        ObsField("event", "categorical", 3),
        ObsField("age", "continuous", 1, 2.0, 5.0),
        ObsField("queue", "continuous", 1, 0.0, np.inf),
    )
    obs, mask = check.random_inputs(policy, 1000)
    assert obs.shape == (1000, 2, 5) and mask.shape == (1000, 2, 3) and mask.any(-1).all()
    assert (mask.sum(-1) == 1).any() and (mask.sum(-1) == 3).any() and not mask.all((0, 1)).any()
    assert (obs[..., :3].sum(-1) == 1).all() and set(np.unique(obs[..., :3])) == {0, 1}
    assert (obs[..., 3] >= 2).all() and (obs[..., 3] <= 5).all()
    assert (obs[..., 4] >= 0).all() and obs[..., 4].max() > 1


def test_every_kind_is_known_wherever_policies_are_loaded() -> None:
    """Whichever modules a process has imported besides."""
    code = "import rllib_wireless.policies; from rllib_wireless.policies.portable import _KINDS; print(*sorted(_KINDS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(_KINDS) == sorted(KINDS)


# ------------------------------------------------------------------------------------------------ refusals


def test_policies_that_remember_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "policy")
    monkeypatch.setattr(NetworkPolicy, "reset", lambda self, copies: None)
    with pytest.raises(UserError, match="kind network remember earlier steps"):
        export_onnx(path, tmp_path / "out")


def test_a_kind_without_such_a_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "policy")
    monkeypatch.delitem(KINDS, "network")
    with pytest.raises(UserError, match="kind network have no ONNX form"):
        export_onnx(path, tmp_path / "out")


def test_an_agent_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy")
    text = (path / "policy.json").read_text()
    (path / "policy.json").write_text(text.replace('"agent_0"', '"../agent_0"'))
    with pytest.raises(DataError, match="is no name for a file"):
        export_onnx(path, tmp_path / "out")
    assert not (tmp_path / "agent_0.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("rllib_wireless.policies.onnx.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} is not installed.*rllib-wireless\[onnx\]"):
        export_onnx(saved(tmp_path / "policy"), tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy", "--agent", "agent_7"], "the policy has no agent 'agent_7'"),
        (["nothing"], "nothing: there is no trained policy here"),
        (["csma_ca"], "csma_ca is a rule of channel_access, which has no arrays"),
        (["policy", "-s", "cw_min=3"], "--set cw_min: an exported policy may have mode and epsilon"),
        (["policy", "-s", "mode=best"], "it should be sample or greedy"),
        (["policy", "--format", "tflite"], "tflite"),
        (["table", "-s", "mode=greedy"], "a policy of the kind table has no mode"),
        (["team", "--agent", "agent_0"], "the policy is centralized"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("policy"))
    saved(Path("team"), joint_policy(np.random.default_rng(0), 2, 4, 3))
    saved(Path("table"), table_policy(np.random.default_rng(0), 2, 4, 3))
    assert command(["export", *arguments, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not Path("out").exists()


def test_the_command_prints_a_table_or_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("policy"))
    assert command(["export", "policy", "--out", "out"]) == 0
    shown = capfd.readouterr().out
    assert "agent_1" in shown and "out/agent_0.onnx" in shown and "largest difference" in shown
    assert command(["export", "policy", "--out", "out", "--agent", "agent_1", "--json"]) == 0
    content = json.loads(capfd.readouterr().out)
    assert (content["policy"], content["format"]) == ("policy", "onnx")
    (file,) = content["files"]
    assert file.keys() == {
        *("agent", "file", "kilobytes", "microseconds", "microseconds_batched", "largest_difference")
    }
    assert sorted(path.name for path in Path("out").iterdir()) == ["agent_0.onnx", "agent_1.onnx"]


# ------------------------------------------------------------------------------------------------ in use

ALONE = """
import sys
for name in ("torch", "ray", "rllib_wireless", "onnx"):
    sys.modules[name] = None
import numpy as np, onnxruntime
sys.path.insert(0, sys.argv[1])
import deploy_station
station = deploy_station.Station(sys.argv[2], seed=1)
draws = [station.act([1, 0, 0, 0], [True, True, False]) for _ in range(2000)]
print(np.bincount(draws, minlength=3).tolist())
"""


def test_the_example_draws_in_a_process_that_has_only_numpy_and_a_runtime(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy")
    (file,) = export_onnx(path, tmp_path / "out", agent="agent_0")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, EXAMPLE.parent, file.file], capture_output=True, text=True, check=True
    )
    counts = np.array(json.loads(done.stdout))
    policy = load_policy(path, agent="agent_0")
    step = step_of(np.array([[[1, 0, 0, 0]]], np.float32), np.array([[[True, True, False]]]))
    expected = policy.probabilities(step)[0, 0]
    assert counts[2] == 0 and counts.min(initial=2000, where=[True, True, False]) > 0
    assert np.abs(counts / 2000 - expected).max() < 4 * np.sqrt(0.25 / 2000)


TRAINED: dict[str, tuple[str, str, Choices, Choices, str | None]] = {
    "network": ("bc", "channel_access", {"num_stations": 3}, {"dataset_num_iters_per_learner": 3}, "ac_be"),
    "joint_network": (
        *(
            "ctde_cql",
            "radio_resource",
            {"num_access_points": 2, "num_users": 6, "episode_slots": 50, "warmup_slots": 10},
        ),
        *({"paradigm": "centralized", "dataset_num_iters_per_learner": 3}, "random"),
    ),
    "factored_network": (
        *("ppo", "channel_access", {"num_stations": 3}),
        *({"paradigm": "centralized", "rollout_length": 4, "rollout_fragment_length": 2}, None),
    ),
    "table": (
        *("dcc", "task_offloading", {"num_devices": 3}),
        *({"steps": 500, "multiplier_updates": 2, "rollouts": 5}, None),
    ),
    "trees": (
        *("scam_fqi", "production_scheduling", {"plant": "grid_3x3", "products": "A,B", "sharing_radius": 1}),
        *({"n_estimators": 3, "fqi_iterations": 2}, "uniform"),
    ),
}


# PPO's runners are actors.
MARKS = {"factored_network": [pytest.mark.slow, pytest.mark.ray]}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=MARKS.get(kind, ())) for kind in sorted(_KINDS)])
def test_trained_policies_act_alike_where_they_come(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Along episodes of the environment itself, whose observations and masks are what a device sees."""
    algorithm, name, config, settings, rule = TRAINED[kind]
    if kind in MARKS:
        request.getfixturevalue("ray_session")
    if rule is not None:
        collect(name, config, [Behaviour(rule)], 600, tmp_path / "data", rows="all")
    train(
        *(algorithm, name),
        out=tmp_path / "run",
        data=tmp_path / "data" if rule else None,
        env_config=config,
        settings=settings,
        iterations=1,
    )
    policy = load_policy(tmp_path / "run")
    assert policy.kind == kind
    files = export_onnx(tmp_path / "run", tmp_path / "out")
    sessions = [onnxruntime.InferenceSession(f.file) for f in files]
    env = make_env(name, 7, **config)
    step, random = env.reset(0), StepRandom(0, 7, len(env.agents))
    for _ in range(40):
        if policy.centralized:
            inputs = [{"obs": step.obs, "action_mask": step.action_mask}]
        else:
            parts = zip(step.obs.swapaxes(0, 1), step.action_mask.swapaxes(0, 1), strict=True)
            inputs = [{"obs": obs, "action_mask": mask} for obs, mask in parts]
        laws = [s.run(["probabilities"], given)[0] for s, given in zip(sessions, inputs, strict=True)]
        law = laws[0] if policy.centralized else np.stack(laws, axis=1)
        expected = law_of(policy, step_of(step.obs, step.action_mask))
        np.testing.assert_allclose(law, expected, atol=1e-5)
        step = env.step(policy.act(step, random))
        random.advance()
