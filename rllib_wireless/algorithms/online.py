"""From offline to online: a policy learned from a log goes on learning in the network, and does not get worse there.

A *deployment* logs what the policy in use does, learns a candidate from the logs so far, and tries both side by side on the same
episodes. The candidate comes into use where it is surely better in one metric, and in none surely worse than the policy that all
began with, but for a margin. What holds candidates to the data, such as the weight of conservative Q-learning, falls from deployment to deployment (a pessimism schedule): the more the
logs say of the policies themselves, the less is extrapolated. A candidate that was not good enough acts in a share of the next
log, beside the policy in use, which shows learning where it was wrong (policy expansion: Zhang et al., ICLR 2023).

deployments/K/log     what was logged in deployment K
deployments/K/data    all that its candidate learned from
deployments/K/run     the candidate's training run
policy/               the policy in use
progress.jsonl        a line per deployment
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from rllib_wireless import storage
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import Run, append_line, read_lines
from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.data import Behaviour, collect, merge, read_card
from rllib_wireless.data.format import CARD
from rllib_wireless.envs.base import BatchedEnv
from rllib_wireless.envs.registry import env_spec
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import load_policy
from rllib_wireless.policies.choice import Mode
from rllib_wireless.policies.evaluation import Evaluation, PairedDifference, evaluate, paired_difference, resolve_policy
from rllib_wireless.policies.portable import copy_policy, policy_folder

Row = dict[str, Any]

_POLICY, _DEPLOYMENTS = "policy", "deployments"


@dataclass(frozen=True, config=CONFIG)
class OnlineSettings(Configuration):
    """How a policy goes on learning online; `-s online.NAME=VALUE` on the command line."""

    owner: ClassVar[str] = "online"

    deployments: int = field(5, "How often a candidate is learned and tried.", ge=1)
    steps: int = field(20_000, "Joint steps of the log of a deployment.", unit="steps", ge=100)
    num_envs: int = field(16, "Copies of the environment that each policy acts in for a log.", ge=1)
    mode: Mode | None = field("sample", "How learned policies act in a log; as they do in use if none.")
    epsilon: float = field(0.0, "Share of uniformly random actions in a log.", ge=0.0, le=1.0)
    rejected_share: float = field(
        0.3, "Share of a log in which the newest candidate acts where it did not come into use.", ge=0.0, lt=1.0,
        source="Zhang et al., ICLR 2023: policies chosen by their values",
    )  # fmt: skip
    window: int | None = field(None, "Newest logs that candidates learn from, beside --data; all if not given.", ge=1)
    pessimism: float | None = field(
        None, "What holds the first candidate to the data; the algorithm's own setting if not given.", ge=0.0
    )
    pessimism_decay: float = field(0.7, "Factor by which that shrinks from deployment to deployment.", gt=0.0, le=1.0)
    metrics: tuple[str, ...] | None = field(
        None, "What decides whether a candidate comes into use; the environment's objectives if not given."
    )
    margins: dict[str, float] = field(
        {}, "By how much a metric may be worse than the first policy's, by its name; not at all if not given."
    )
    test_copies: int = field(64, "Copies in which either policy is tried, on the same random numbers.", ge=2)
    test_steps: int = field(
        1000, "Steps of each copy in a trial; whole episodes where metrics need them.", unit="steps", ge=1
    )


class FineTuning:
    """A run that goes from deployment to deployment; killed and begun anew it goes on where it was.

    Args:
        run: What is run; its `online` holds the settings and the folder of the first policy.
        out: The run's folder.
        train: Trains a run in a folder, or goes on with it.

    Attributes:
        rows: A line for each deployment so far.

    Raises:
        UserError: Where the algorithm has nothing to be less cautious by, or the policy does not fit.
    """

    def __init__(self, run: Run, out: Path, train: Callable[[Run, Path], Any]) -> None:
        assert run.online is not None
        self._run, self._out, self._train = run, out, train
        self.rows: list[Row] = read_lines(out)
        given = dict(run.online)
        self._first = given.pop(_POLICY)
        self.settings = OnlineSettings.parse(given)
        self._spec = env_spec(run.env)
        self._metrics = self.settings.metrics or self._spec.objectives
        config = run.config(out)
        caution = config.caution()
        assert caution is not None  # as Run.config has made sure of
        self._caution = caution
        self._pessimism = getattr(config, caution) if self.settings.pessimism is None else self.settings.pessimism
        self._check(config.build_env())
        self._publish()

    @property
    def finished(self) -> bool:
        """Whether all deployments are done."""
        return len(self.rows) >= self.settings.deployments

    @property
    def share_done(self) -> float:
        """Share of the deployments that are done."""
        return len(self.rows) / self.settings.deployments

    def step(self) -> Row:
        """One deployment.

        Returns:
            Its line: `pessimism`; `live`, the metrics of its log, up to episodes that it cut off; `candidate`, `in_use` and `first`,
            those of the policies side by side; `difference`, candidate less in use, and `difference_to_first`, with 95 % intervals;
            whether the candidate was `accepted`; and the joint `steps` logged so far, to which trials add test_copies * test_steps
            a policy.
        """
        number = len(self.rows) + 1
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        in_use = self.in_use()
        live = self._log(number, in_use)
        candidate, pessimism = self._learn(number)
        first = self._folder(0) / _POLICY
        new, old = self._try(number, candidate), self._try(number, in_use)
        began = old if in_use == first else self._try(number, first)
        better, gained = ({name: paired_difference(new, o, name) for name in self._metrics} for o in (old, began))
        row = {
            "iteration": number,
            "pessimism": pessimism,
            "live": live,
            "candidate": self._metrics_of(new),
            "in_use": self._metrics_of(old),
            "first": self._metrics_of(began),
            "difference": _plain(better),
            "difference_to_first": _plain(gained),
            "accepted": self._is_good(better, gained),
            "steps": number * self.settings.steps,
        }
        self.rows.append(row)
        self._publish()
        append_line(self._out, row)
        return row

    def in_use(self) -> Path:
        """Folder of the policy in use: the newest accepted candidate, or the first policy."""
        accepted = [row["iteration"] for row in self.rows if row["accepted"]]
        return self._folder(accepted[-1]) / "run" / _POLICY if accepted else self._folder(0) / _POLICY

    def _publish(self) -> None:
        """Keep the first policy, and put the one in use where policies of runs are."""
        kept = self._folder(0) / _POLICY
        if not kept.exists():
            source = policy_folder(self._first)
            assert source is not None
            copy_policy(source, kept)
        copy_policy(self.in_use(), self._out / _POLICY)

    def _check(self, env: BatchedEnv) -> None:
        known = {metric.name for metric in self._spec.metrics}
        for field_, names, allowed in (
            ("metrics", self._metrics, known),
            ("margins", self.settings.margins, self._metrics),
        ):
            if unknown := [metric for metric in names if metric not in allowed]:
                raise ConfigError(OnlineSettings.owner, field_, unknown[0], f"metrics are {', '.join(sorted(allowed))}")
        resolve_policy(str(self._first), env, self._acting(self._first))

    def _acting(self, policy: Path) -> dict[str, Any]:
        """How a policy acts in a log."""
        kinds = {"mode": self.settings.mode, "epsilon": self.settings.epsilon}
        has = load_policy(policy)
        return {name: value for name, value in kinds.items() if value is not None and hasattr(has, name)}

    def _log(self, number: int, in_use: Path) -> dict[str, float | None]:
        """Write the log of a deployment; its metrics."""
        s, run, folder = self.settings, self._run, self._folder(number) / "log"
        if (folder / CARD).exists() and read_card(folder).complete:
            return read_card(folder).metrics
        shutil.rmtree(folder, ignore_errors=True)
        policies = [Behaviour(str(in_use), 1.0, self._acting(in_use))]
        if self.rows and not self.rows[-1]["accepted"] and s.rejected_share > 0.0:
            rejected = self._folder(number - 1) / "run" / _POLICY
            policies = [
                dataclasses.replace(policies[0], share=1.0 - s.rejected_share),
                Behaviour(str(rejected), s.rejected_share, self._acting(rejected)),
            ]
        needs = algorithm_spec(run.algorithm).requirements
        card = collect(
            run.env,
            run.env_config,
            policies,
            s.steps,
            folder,
            seed=self._seed(number, "log"),
            num_envs=s.num_envs,
            split="agents" if needs.layout == "agents" else "none",
            rows=read_card(run.data).rows if run.data is not None else "all" if needs.aligned else "decisions",
        )
        return card.metrics

    def _learn(self, number: int) -> tuple[Path, float]:
        """Learn a candidate from the logs so far; its folder, and what held it to the data."""
        s, folder = self.settings, self._folder(number)
        first = 1 if s.window is None else max(number - s.window + 1, 1)
        logs: list[Path | str] = [self._folder(k) / "log" for k in range(first, number + 1)]
        if self._run.data is not None:
            logs.insert(0, self._run.data)
        data = Path(logs[0])
        if len(logs) > 1:
            data = folder / "data"
            if not data.exists():
                merge(logs, data)
        pessimism = self._pessimism * s.pessimism_decay ** (number - 1)
        run = dataclasses.replace(
            self._run,
            data=storage.absolute(data),
            settings={**self._run.settings, self._caution: pessimism},
            seed=self._seed(number, "learn"),
            online=None,
        )
        self._train(run, folder / "run")
        return folder / "run" / _POLICY, pessimism

    def _try(self, number: int, policy: Path) -> Evaluation:
        s, run = self.settings, self._run
        whole = self._spec.env.default_episodes is not None
        return evaluate(
            str(policy),
            run.env,
            run.env_config,
            num_envs=s.test_copies,
            steps=None if whole else s.test_steps,
            episodes=s.test_copies if whole else None,
            seed=self._seed(number, "test"),
        )

    def _metrics_of(self, test: Evaluation) -> dict[str, float]:
        return {m.name: m.reduce(test.statistics) for m in self._spec.metrics if m.name in self._metrics}

    def _is_good(self, better: Mapping[str, PairedDifference], gained: Mapping[str, PairedDifference]) -> bool:
        """Surely better than what is in use in one metric, and in none surely worse than the first policy by its margin."""
        higher = {metric.name: metric.better == "higher" for metric in self._spec.metrics}
        least = [d.lower95 if higher[name] else -d.upper95 for name, d in better.items()]
        most = {name: d.upper95 if higher[name] else -d.lower95 for name, d in gained.items()}
        margins = self.settings.margins
        return max(least) > 0.0 and all(upper >= -margins.get(name, 0.0) for name, upper in most.items())

    def _seed(self, number: int, purpose: str) -> int:
        key = [self._run.seed, number, ("log", "learn", "test").index(purpose)]
        return int(np.random.SeedSequence(key).generate_state(1)[0])

    def _folder(self, number: int) -> Path:
        return self._out / _DEPLOYMENTS / str(number)


def _plain(differences: Mapping[str, PairedDifference]) -> dict[str, dict[str, Any]]:
    return {name: {"mean": d.mean, "ci95": [d.lower95, d.upper95]} for name, d in differences.items()}
