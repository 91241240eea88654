"""Fixtures that several parts share."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: tests run side by side on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before Ray is started: its processes should keep out of the user's cache, too.
_CACHE = tempfile.TemporaryDirectory(prefix="rllib-wireless-cache-")
os.environ["RLLIB_WIRELESS_CACHE"] = _CACHE.name

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# An example that compiles, or that waits for a busy machine, takes as long as it takes.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for the whole session, with room for a learner, runners and clients on any machine."""
    import ray

    # Actors must find the classes that test modules define.
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests.parent), str(tests)])
    ray.init(
        address="local",  # whatever cluster may run on this machine
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Environments that a test imports and registers are forgotten after it."""
    from rllib_wireless.envs import plugins, registry

    monkeypatch.setenv(plugins.IMPORT, "")
    monkeypatch.setattr(plugins, "_loaded", {plugins.GROUP})
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    yield
    for name in ("own_environment", "own_pettingzoo", "mine"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def csma_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 joint steps of three saturated CSMA/CA stations."""
    from rllib_wireless.data.collect import Behaviour, collect

    out = tmp_path_factory.mktemp("data") / "csma"
    collect("channel_access", {"num_stations": 3}, [Behaviour("csma_ca")], 20_000, out, num_envs=8)
    return out


@pytest.fixture(scope="session")
def csma_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, one folder per station."""
    from rllib_wireless.data.collect import Behaviour, collect

    out = tmp_path_factory.mktemp("data") / "clients"
    collect("channel_access", {"num_stations": 3}, [Behaviour("csma_ca")], 20_000, out, num_envs=8, split="agents")
    return out


@pytest.fixture(scope="session")
def swept(csma_data: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """Five trials with two seeds and two objectives, the fifth in a process of its own as it were; some trials cannot work."""
    from rllib_wireless.tuning.sweep import resume_sweep, tune

    out = tmp_path_factory.mktemp("sweeps") / "bc"
    search = {"fcnet_hiddens": "[[64, 64], [32, 32], [16, 16]]", "train_batch_size_per_learner": "[128, 256]"}
    small = {"dataset_num_iters_per_learner": 10, "evaluation_duration": 800, "num_envs_per_env_runner": 8}
    tune(
        "bc", "channel_access", out=out, trials=4, data=csma_data, env_config={"num_stations": 3}, settings=small,
        search=search, iterations=2, seeds=2, seed=7, concurrent=2,
    )  # fmt: skip
    resume_sweep(out, trials=5)
    return out


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take the session's Ray are marked `ray`."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
