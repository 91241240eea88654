"""Cache, and processes that are killed or race: what is there is whole."""

import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import orjson
import pytest
from data_sets import open_card, small

from rllib_wireless.data import DataWarning, check, load_dataset, read_card, store
from rllib_wireless.data.format import STATE
from rllib_wireless.data.store import Dataset

FILE = "part-00000.json"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLLIB_WIRELESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def assert_same(a: Dataset, b: Dataset) -> None:
    assert a.agents == b.agents
    batches = [(a.rows[agent], b.rows[agent]) for agent in a.agents]
    if a.joint_state is not None and b.joint_state is not None:
        batches.append((a.joint_state, b.joint_state))
    for x, y in batches:
        assert x.keys() == y.keys()
        for name, values in x.items():
            assert values.dtype == y[name].dtype and np.array_equal(values, y[name]), name


def test_a_data_set_is_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path / "d")
    first = load_dataset(tmp_path / "d")
    monkeypatch.delattr(store, "read_files")
    again = load_dataset(tmp_path / "d")
    assert_same(first, again)
    assert again.joint_state is not None and again.joint_state["obs"].shape[1] == again.card.state_size
    with pytest.raises(NameError):
        load_dataset(tmp_path / "d", use_cache=False)


def test_arrays_from_the_cache_may_be_written_to_and_the_cache_stays(tmp_path: Path, cache: Path) -> None:
    small(tmp_path / "d")
    expected = load_dataset(tmp_path / "d").rows["station_0"]["rewards"].copy()
    load_dataset(tmp_path / "d").rows["station_0"]["rewards"][:] = 7
    assert np.array_equal(load_dataset(tmp_path / "d").rows["station_0"]["rewards"], expected)


def test_another_state_of_the_files_replaces_the_entry(tmp_path: Path, cache: Path) -> None:
    small(tmp_path / "d")
    small(tmp_path / "other")
    before = load_dataset(tmp_path / "d").num_transitions
    load_dataset(tmp_path / "other")
    open_card(tmp_path / "d")
    lines = (tmp_path / "d" / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / "d" / FILE).write_bytes(b"".join(lines[:-1]))
    assert load_dataset(tmp_path / "d").num_transitions < before
    assert len(list(cache.iterdir())) == 2


def test_entries_unused_for_longest_make_room(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two of three, the one used longest ago goes; what was loaded from it stays readable."""
    loaded = []
    for name in ("a", "b"):
        small(tmp_path / name)
        loaded.append(load_dataset(tmp_path / name))
    old = {entry: entry.stat().st_size for entry in cache.glob("*.safetensors")}
    for entry in old:
        os.utime(entry, (1, 1))
    mapped = load_dataset(tmp_path / "a")
    monkeypatch.setenv("RLLIB_WIRELESS_CACHE_GB", str(2.5 * max(old.values()) / 1e9))
    small(tmp_path / "c")
    load_dataset(tmp_path / "c")
    left = set(cache.glob("*.safetensors"))
    assert len(left) == 2 and len(left & set(old)) == 1
    monkeypatch.delattr(store, "read_files")
    assert_same(mapped, loaded[0])
    assert_same(load_dataset(tmp_path / "a"), loaded[0])


def test_without_a_writable_cache_loading_works_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path / "d")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLLIB_WIRELESS_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(DataWarning, match="nothing cached"):
        assert load_dataset(tmp_path / "d").num_transitions > 0


RACE = """
import os, sys, time
import numpy as np
from rllib_wireless.data import load_dataset
folder, start = sys.argv[1], time.time() + 0.3
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        time.sleep(max(0, start - time.time()))
        rows = [load_dataset(folder).num_transitions for _ in range(5)]
        os._exit(0 if len(set(rows)) == 1 else 1)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""


def test_processes_that_write_the_cache_at_once_leave_one_whole_entry(tmp_path: Path, cache: Path) -> None:
    small(tmp_path / "d")
    subprocess.run([sys.executable, "-c", RACE, str(tmp_path / "d")], check=True, env=dict(os.environ))
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
    assert_same(load_dataset(tmp_path / "d"), load_dataset(tmp_path / "d", use_cache=False))


KILL = """
import os, random, signal, sys, time
from pathlib import Path
from rllib_wireless.data import Behaviour, collect
import rllib_wireless.policies.evaluation
for number in range(6):
    out = Path(sys.argv[1]) / str(number)
    pid = os.fork()
    if pid == 0:
        policies = [Behaviour("csma_ca")]
        collect("channel_access", {"num_stations": 3}, policies, 10**7, out, num_envs=4, fragment_steps=50)
    wanted = random.Random(number).randrange(1, 400_000)
    while not list(out.glob("*.json")) or sum(path.stat().st_size for path in out.glob("*.json")) < wanted:
        assert os.waitpid(pid, os.WNOHANG)[0] == 0
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def test_a_killed_writer_leaves_whole_lines_and_at_most_one_broken_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILL, str(tmp_path)], check=True, env=dict(os.environ), timeout=120)
    for number in range(6):
        assert_clean_to_last_line(tmp_path / str(number))


def test_a_file_cut_at_any_byte_is_clean_up_to_its_last_whole_line(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    small(folder, 160)
    open_card(folder)
    data = (folder / FILE).read_bytes()
    first = data.index(b"\n") + 1
    r = random.Random(0)
    for cut in [first, first + 1, len(data) - 1, len(data), *(r.randrange(first, len(data)) for _ in range(40))]:
        (folder / FILE).write_bytes(data[:cut])
        assert_clean_to_last_line(folder)


def assert_clean_to_last_line(folder: Path) -> None:
    assert not read_card(folder).complete
    whole, _, rest = (folder / FILE).read_bytes().rpartition(b"\n")
    lines = [orjson.loads(line) for line in whole.splitlines()]
    try:
        lines.append(orjson.loads(rest))  # cut off between the line and its newline
        rest = b""
    except orjson.JSONDecodeError:
        pass
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = check(folder)
    assert [type(w.message) for w in caught] == ([DataWarning] if rest else [])
    counts = dict.fromkeys(report.transitions, 0)
    for line in lines:
        for agent, batch in line["policy_batches"].items():
            if agent != STATE:
                counts[agent] += len(batch["t"])
    assert report.transitions == counts and not report.complete
