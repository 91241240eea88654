"""Exported policies: what a runtime computes is what the policy does."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from random_policies import forests, greedy_actions, law_of, random_policies, random_steps, step_of

from rllib_wireless.algorithms.scam_fqi.regressors import fit_function
from rllib_wireless.algorithms.scam_fqi.settings import SCAMFQISettings
from rllib_wireless.envs import EnvStep
from rllib_wireless.envs.base import FloatArray, IntArray
from rllib_wireless.policies import PortablePolicy, TablePolicy, TreesPolicy
from rllib_wireless.policies.header import FieldHeader, Header
from rllib_wireless.policies.onnx import check
from rllib_wireless.policies.onnx.export import model_of
from rllib_wireless.policies.onnx.forests import tree_ensemble
from rllib_wireless.policies.portable import _KINDS, slice_policy
from rllib_wireless.policies.trees import LEAF, UNKNOWN, Forests


def session_of(policy: PortablePolicy) -> onnxruntime.InferenceSession:
    return check.session(model_of(policy, header_of(policy), "sha").SerializeToString())


def header_of(policy: PortablePolicy) -> Header:
    fields = [FieldHeader.of(f) for f in policy.obs_fields or ()]
    return Header(1, policy.kind, list(policy.agents), "toy", {}, fields, policy.num_actions, {}, "", "")


def run_exported(policy: PortablePolicy, step: EnvStep) -> tuple[FloatArray, IntArray]:
    """Probabilities and actions of the whole policy, agent by agent as each file gives them."""
    outputs = ["probabilities", "action"]
    if policy.centralized:
        return session_of(policy).run(outputs, {"obs": step.obs, "action_mask": step.action_mask})  # type: ignore[no-any-return]
    parts = []
    for i, name in enumerate(policy.agents):
        inputs = {"obs": step.obs[:, i], "action_mask": step.action_mask[:, i]}
        parts.append(session_of(slice_policy(policy, name)).run(outputs, inputs))
    return np.stack([p for p, _ in parts], axis=1), np.stack([a for _, a in parts], axis=1)


@pytest.mark.parametrize(
    "choice", [{}, {"mode": "greedy"}, {"epsilon": 0.15}, {"mode": "greedy", "epsilon": 0.5}], ids=str
)
@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_a_file_is_the_policy(kind: str, choice: dict[str, Any]) -> None:
    for policy, rows in itertools.product(random_policies(kind, **{"mode": "sample", **choice}), (1, 257, 2000)):
        step = random_steps(policy, rows)
        probabilities, actions = run_exported(policy, step)
        law = law_of(policy, step)
        np.testing.assert_allclose(probabilities, law, rtol=1e-5, atol=1e-6)
        assert (probabilities[law == 0] == 0).all()
        np.testing.assert_array_equal(actions, greedy_actions(policy, step))
        assert probabilities.dtype == np.float32 and actions.dtype == np.int64


@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_ties_occur_and_are_broken_alike(kind: str) -> None:
    """The test above would be worth little if no two actions were equally good."""
    tied = 0
    for policy in random_policies(kind, **({} if kind == "table" else {"mode": "sample"})):
        law = law_of(policy, random_steps(policy, 500))
        tied += int(((law == law.max(-1, keepdims=True)).sum(-1) > 1).sum())
    assert tied > 50


@pytest.mark.parametrize("kind", sorted(set(_KINDS) - {"table"}))
def test_where_nothing_is_legal_action_0_is_taken(kind: str) -> None:
    for policy in random_policies(kind):
        step = random_steps(policy, 4)
        step.action_mask[:] = False
        probabilities, actions = run_exported(policy, step)
        assert (actions == 0).all() and (probabilities[..., 0] == 1).all()


# ------------------------------------------------------------------------------------------------ edges


def around(value: float) -> npt.NDArray[np.float32]:
    single = np.float32(value)
    return np.array(
        [np.nextafter(single, np.float32(-np.inf)), single, np.nextafter(single, np.float32(np.inf))], np.float32
    )


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1 / 3, 0.0, 1e-40, 16777217.0])
def test_a_tree_sends_its_threshold_left(threshold: float) -> None:
    """Thresholds that single precision has, and such as it rounds up or down."""
    tree = Forests(
        roots=np.zeros((1, 1, 1), np.int64),
        feature=np.array([0, LEAF, LEAF], np.int32),
        threshold=np.array([threshold, 0, 0], np.float32),
        right=np.array([2, UNKNOWN, UNKNOWN]),
        value=np.array([1, 0, 0], np.float32),
    )
    two = tree._replace(roots=np.array([[[0], [3]]]), **_joined(tree, value=(0.0, 1.0, 5.0), other=(0.0, 2.0, 2.0)))
    obs = around(threshold)[:, None, None]
    _, actions = run_exported(
        TreesPolicy(two, 1, ("agent_0",)), step_of(obs, np.ones((3, 1, 2), np.bool_))
    )  # 1 or 5 against 2
    assert actions[:, 0].tolist() == [1, 1, 0]


def _joined(tree: Forests, value: tuple[float, ...], other: tuple[float, ...]) -> dict[str, Any]:
    """Two trees of equal splits and other leaves."""
    return {
        "feature": np.tile(tree.feature, 2),
        "threshold": np.tile(tree.threshold, 2),
        "right": np.concatenate([tree.right, np.where(tree.right == UNKNOWN, UNKNOWN, tree.right + 3)]),
        "value": np.array([*value, *other], np.float32),
    }


@pytest.mark.parametrize("regressor", ["ExtraTreesRegressor", "GradientBoostingRegressor", "DecisionTreeRegressor"])
@pytest.mark.parametrize("actions", ["separate", "input"])
def test_fitted_forests_give_equal_bits_at_their_thresholds(regressor: str, actions: Any) -> None:
    """Values are compared through a softmax that is sharp enough to show a single bit of them."""
    random = np.random.default_rng(0)
    obs, chosen = random.normal(size=(600, 3)).astype(np.float32), random.integers(0, 3, 600)
    settings = SCAMFQISettings(regressor=regressor, n_estimators=9, actions=actions)
    fitted = fit_function(settings, 4)(obs, chosen, obs[:, 0] * chosen + random.normal(size=600), 1)
    trees: Forests = fitted.forests  # type: ignore[attr-defined]
    splits = trees.feature[(trees.feature != LEAF) & (trees.feature < 3)]
    levels = trees.threshold[(trees.feature != LEAF) & (trees.feature < 3)]
    at = random.normal(size=(len(splits), 3)).astype(np.float32)
    at[np.arange(len(at)), splits] = levels + random.integers(-1, 2, len(at)) * np.spacing(levels)
    at = np.concatenate([at, obs])
    sharp = trees._replace(value=trees.value * np.float32(2**18))  # a power of two keeps every bit
    policy = TreesPolicy(sharp, 3, ("agent_0",), "sample")
    step = step_of(at[:, None], np.ones((len(at), 1, 4), np.bool_))
    probabilities, best = run_exported(policy, step)
    np.testing.assert_allclose(probabilities, policy.probabilities(step), atol=1e-6)
    np.testing.assert_array_equal(best, greedy_actions(policy, step))


def test_roots_are_no_leaves_to_older_runtimes() -> None:
    """They compare the numbers of both branches of a root, though leaves and nodes are numbered apart."""
    for seed in range(30):
        built = tree_ensemble(forests(np.random.default_rng(seed), 1, 3, 2), 2)
        left, right = (np.array(built[f"nodes_{branch}nodeids"])[built["tree_roots"]] for branch in ("true", "false"))
        assert (left != right).all()


def test_a_table_takes_the_lower_cell_at_a_border() -> None:
    """The cells of single precision: borders are means of neighbouring levels."""
    levels = np.array([0.1, 0.2, 0.7, 1e6], np.float32)
    borders = (levels[1:] + levels[:-1]) / 2
    policy = TablePolicy(np.eye(8)[None], [levels, np.array([0.0, 1.0])], ("agent_0",))
    obs = np.array([[x, y] for border in borders for x in around(border) for y in around(0.5)], np.float32)
    step = step_of(obs[:, None], np.ones((len(obs), 1, 8), np.bool_))
    _, cells = run_exported(policy, step)
    expected = [2 * (k + (i == 2)) + (j == 2) for k in range(3) for i in range(3) for j in range(3)]
    assert cells[:, 0].tolist() == expected == policy.probabilities(step).argmax(-1)[:, 0].tolist()
