"""Logs of others become data sets: whatever is wrong in them is told by line, and how they are read does not matter."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_wireless.algorithms.training import train
from rllib_wireless.benchmarks.importing import peak_mb
from rllib_wireless.cli import run
from rllib_wireless.data import check, load_dataset
from rllib_wireless.data.import_mapping import ImportMapping, duration_ns
from rllib_wireless.data.import_order import Sequence
from rllib_wireless.data.importer import ImportReport, import_log
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies import evaluate
from rllib_wireless.tuning import estimate

EXAMPLE = Path(__file__).parents[1] / "examples/own_logs"
MAPPING = {
    "agent": "node",
    "time": "t",
    "observations": ["level", {"mode": 2}],
    "actions": "act",
    "rewards": "gain",
    "num_actions": 3,
}


def lines(steps: int = 40, nodes: int = 2) -> list[str]:
    """Rows of a log in order; every value follows from step and node."""
    return [f"{t},n{i},{(t + i) % 10 / 10},{t % 2},{(t * i) % 3},{t}.5" for t in range(steps) for i in range(nodes)]


def write(path: Path, rows: list[str], header: str = "t,node,level,mode,act,gain") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def read_rejects(folder: Path) -> list[tuple[int, str]]:
    with (folder / "rejects.csv").open(newline="") as file:
        return [(int(row["line"]), row["reason"]) for row in csv.DictReader(file)]


def content(folder: Path) -> dict[str, bytes]:
    """All that was written, but for the card, which names the source."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "card.yaml"}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImportReport]:
    out = tmp_path_factory.mktemp("own") / "ap"
    return out, import_log(EXAMPLE / "ap_log.csv", EXAMPLE / "mapping.yaml", out)


def test_the_example_is_understood(example: tuple[Path, ImportReport]) -> None:
    out, report = example
    assert report.gaps["count"] == 2 and report.duplicates > 20 and report.lines == 6031
    found = dict(read_rejects(out))
    assert list(found) == [152, 702, 1402, 2102, 2902, 3702, 4402, 5002]
    log = (EXAMPLE / "ap_log.csv").read_text().splitlines()
    assert log[3701].startswith("-- collector") and "overflow" in log[5001] and found[2902] == "a quote is not closed"
    rows = load_dataset(out).aligned()
    assert rows["obs"].shape[1:] == (3, 8) and (rows["duration"] >= 1).all() and len(np.unique(rows["eps_id"])) == 11
    # A packet of 10 slots and 2 of silence follow where somebody sends; nothing else takes longer than a slot.
    sent = (rows["actions"] == 1).any(1)
    assert set(rows["duration"][~sent].ravel()) == {1.0} and set(rows["duration"][sent].ravel()) <= {12.0, 10.0, 11.0}
    assert check(out).complete


def test_the_log_is_what_its_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(EXAMPLE / "make_log.py"), str(tmp_path / "x.csv")], check=True)
    assert (tmp_path / "x.csv").read_bytes() == (EXAMPLE / "ap_log.csv").read_bytes()
    assert (EXAMPLE / "ap_log.csv").stat().st_size < 600_000


@pytest.mark.parametrize("block", [1, 61, 4096])
def test_block_boundaries_do_not_matter(tmp_path: Path, block: int) -> None:
    log = (EXAMPLE / "ap_log.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "x.csv").write_bytes(b"".join([*log[:130], *log[140:160], *log[2895:2910], log[1401]]))
    mapping = ImportMapping.parse({**_example_mapping(), "window": 32})
    whole = import_log(tmp_path / "x.csv", mapping, tmp_path / "whole", max_rejects=0.2)
    cut = import_log(tmp_path / "x.csv", mapping, tmp_path / "cut", max_rejects=0.2, block_bytes=block)
    assert content(tmp_path / "whole") == content(tmp_path / "cut") and whole.rejected == cut.rejected >= 3
    assert whole.card == cut.card


def _example_mapping() -> dict[str, Any]:
    import yaml

    mapping: dict[str, Any] = yaml.safe_load((EXAMPLE / "mapping.yaml").read_text())
    return mapping


CORRUPTIONS: dict[str, tuple[Callable[[str], str], str]] = {
    "cut": (lambda row: row[: row.rindex(",")], "it has 5 values, but the header has 6"),
    "longer": (lambda row: row + ",1", "it has 7 values, but the header has 6"),
    "text": (lambda row: "other words", "it has 1 values, but the header has 6"),
    "quote": (lambda row: '"' + row, "a quote is not closed"),
    "late quote": (lambda row: row.replace(",n", 'x","n'), "a quote is not closed"),
    "time": (lambda row: "soon" + row[row.index(",") :], "column t: it should hold integers"),
    "half": (lambda row: "0.5" + row[row.index(",") :], "column t: it should hold integers"),
    "before": (lambda row: "-1" + row[row.index(",") :], "column t: it should be at least 0"),
    "reward": (lambda row: row[: row.rindex(",")] + ",much", "column gain: it should hold numbers"),
    "empty": (lambda row: row[: row.rindex(",")] + ",", "column gain: it is empty"),
    "infinite": (lambda row: row[: row.rindex(",")] + ",inf", "column gain: it holds a number that is not finite"),
    "huge": (lambda row: row[: row.rindex(",")] + ",1e300", "column gain: it holds a number that is not finite"),
    "bytes": (lambda row: row[: row.rindex(",")] + ",\udcff1", "column gain: it should hold numbers"),
    "nul": (lambda row: row[: row.rindex(",")] + ",\x00", "column gain: it should hold numbers"),
}


@settings(max_examples=60)
@given(broken=st.dictionaries(st.integers(0, 79), st.sampled_from(sorted(CORRUPTIONS)), max_size=8), ends=st.booleans())
def test_broken_lines_are_told_by_line_and_reason(
    tmp_path_factory: pytest.TempPathFactory, broken: dict[int, str], ends: bool
) -> None:
    folder = tmp_path_factory.mktemp("broken")
    rows = lines()
    for place, kind in broken.items():
        rows[place] = CORRUPTIONS[kind][0](rows[place])
    text = "\n".join(["t,node,level,mode,act,gain", *rows]) + ("\n" if ends else "")
    (folder / "x.csv").write_bytes(text.encode(errors="surrogateescape"))
    report = import_log(folder / "x.csv", MAPPING, folder / "out", max_rejects=1.0, block_bytes=300)
    found = read_rejects(folder / "out") if broken else []
    assert found == [(place + 2, CORRUPTIONS[kind][1]) for place, kind in sorted(broken.items())]
    assert report.rejected == len(broken) and report.lines == 80
    good = [i for i in range(80) if i not in broken]
    assert sum(a.transitions + a.dropped for a in report.card.agents.values()) == len(good)


@settings(max_examples=60)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(1, 200))
def test_arbitrary_bytes_are_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int, block: int
) -> None:
    folder = tmp_path_factory.mktemp("junk")
    whole = "\n".join(["t,node,level,mode,act,gain", *lines(10)]).encode()
    (folder / "x.csv").write_bytes(whole[:place] + junk + whole[place:])
    try:
        first = import_log(folder / "x.csv", MAPPING, folder / "a", max_rejects=1.0)
    except UserError:
        return
    import_log(folder / "x.csv", MAPPING, folder / "b", max_rejects=1.0, block_bytes=block)
    assert content(folder / "a") == content(folder / "b")
    assert check(folder / "a").transitions == {n: a.transitions for n, a in first.card.agents.items()}


def test_carriage_returns_blank_lines_and_marks_are_no_rows(tmp_path: Path) -> None:
    rows = lines(10)
    write(tmp_path / "a.csv", rows)
    text = "\r\n".join(["t,node,level,mode,act,gain", *rows[:5], "", *rows[5:], "", ""])
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    report = import_log(tmp_path / "a.csv", MAPPING, tmp_path / "a")
    again = import_log(tmp_path / "b.csv", MAPPING, tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b") and report.lines == again.lines == 20


def test_order_is_restored_within_the_window(tmp_path: Path) -> None:
    rows = lines(100)
    random = np.random.default_rng(0)
    shuffled = [rows[i] for i in np.argsort(np.arange(200) + random.uniform(0, 20, 200))]
    import_log(write(tmp_path / "a.csv", rows), {**MAPPING, "window": 30}, tmp_path / "a")
    import_log(write(tmp_path / "b.csv", shuffled), {**MAPPING, "window": 30}, tmp_path / "b")
    assert shuffled != rows and content(tmp_path / "a") == content(tmp_path / "b")
    by_node = sorted(rows, key=lambda row: row.split(",")[1])
    import_log(write(tmp_path / "c.csv", by_node), MAPPING, tmp_path / "c")  # all within the default window
    whole = import_log(write(tmp_path / "d.csv", rows), MAPPING, tmp_path / "d")
    assert content(tmp_path / "c") == content(tmp_path / "d") and whole.card.episodes == 1
    with pytest.raises(DataError, match="it comes more than 30 lines too late; sort the file by time"):
        import_log(tmp_path / "c.csv", {**MAPPING, "window": 30}, tmp_path / "e")


def test_a_row_counts_once(tmp_path: Path) -> None:
    rows = lines(20)
    twice = [*rows[:8], rows[3], *rows[8:], rows[-1], rows[4].rsplit(",", 1)[0] + ",99"]
    report = import_log(write(tmp_path / "b.csv", twice), MAPPING, tmp_path / "b", max_rejects=0.1)
    import_log(write(tmp_path / "a.csv", rows), MAPPING, tmp_path / "a")
    assert report.duplicates == 2 and report.reasons == [
        {"reason": "another row of the same agent and step says otherwise", "count": 1, "line": 44, "value": "line 6"}
    ]
    assert content(tmp_path / "a").items() <= content(tmp_path / "b").items()


def test_gaps_end_episodes_and_time_begins_anew(tmp_path: Path) -> None:
    times = ["08:00:00.00Z", "08:00:00.11Z", "08:00:00.19Z", "09:00:00Z", "10:00:00.1+01:00", "09:00:03Z"]
    rows = [f"2026-01-01T{t},n0,0.5,0,1,{i}" for i, t in enumerate(times)]
    clock = {"column": "t", "step": "100 ms"}
    log = write(tmp_path / "x.csv", rows)
    report = import_log(log, {**MAPPING, "time": clock, "gap": "2 s"}, tmp_path / "out")
    found = load_dataset(tmp_path / "out").rows["n0"]
    assert found["t"].tolist() == [0, 1, 0] and found["new_t"].tolist() == [1, 2, 1]
    assert found["eps_id"].tolist() == [0, 0, 1] and found["rewards"].tolist() == [0.0, 1.0, 3.0]
    assert report.gaps == {"count": 2, "longest": 35998} and report.card.agents["n0"].dropped == 3
    one = import_log(log, {**MAPPING, "time": clock}, tmp_path / "one")
    assert one.gaps["count"] == 0 and one.card.episodes == 1 and one.card.agents["n0"].transitions == 5
    with pytest.raises(UserError, match="steps have no unit; give a number of steps"):
        import_log(log, {**MAPPING, "gap": "2 s"}, tmp_path / "no")
    seconds = [f"{1.7e9 + s},n0,0.5,0,1,{i}" for i, s in enumerate([0, 0.11, 0.19, 3600, 3600.1, 3603])]
    numbers = {**MAPPING, "time": {**clock, "unit": "s"}, "gap": 20}
    import_log(write(tmp_path / "y.csv", seconds), numbers, tmp_path / "seconds")
    assert content(tmp_path / "seconds") == content(tmp_path / "out")


def test_an_agent_that_is_away_for_long_has_no_transition_across(tmp_path: Path) -> None:
    rows = [row for row in lines(30) if not (",n1," in row and 10 <= int(row.split(",")[0]) < 20)]
    import_log(write(tmp_path / "x.csv", rows), {**MAPPING, "gap": 3}, tmp_path / "out")
    found = load_dataset(tmp_path / "out").rows
    assert found["n0"]["t"].tolist() == list(range(29))
    assert found["n1"]["t"].tolist() == [*range(9), *range(20, 29)]


@pytest.mark.parametrize("window", [4, 100_000])
def test_steps_that_lack_an_agent_are_left_out(tmp_path: Path, window: int) -> None:
    rows = [row for i, row in enumerate(lines(12)) if i not in (9, 10)]  # step 4 of n1, step 5 of n0
    mapping = {**MAPPING, "agents": {"n1": "b", "n0": "a"}, "aligned": True, "window": window}
    report = import_log(write(tmp_path / "x.csv", rows), mapping, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert data.agents == ("b", "a") and report.incomplete == 2
    assert data.aligned()["t"][:, 0].tolist() == [0, 1, 2, 6, 7, 8, 9, 10]
    assert data.aligned()["eps_id"][:, 0].tolist() == [0] * 3 + [1] * 5
    with pytest.raises(UserError, match="agents should list all agents"):
        import_log(tmp_path / "x.csv", {**MAPPING, "aligned": True})


def test_columns_are_scaled_named_bounded_and_summed(tmp_path: Path) -> None:
    rows = ["0,n,50,low,go,1,2", "1,n,100,high,stay,0,1", "2,n,101,low,go,1,1", "3,n,0,high,go,1,1"]
    mapping = {
        **MAPPING,
        "observations": [
            {"column": "level", "scale": 0.01, "low": 0, "high": 1},
            {"column": "mode", "values": ["low", "high"]},
        ],
        "actions": {"column": "act", "values": ["stay", "go"]},
        "rewards": {"gain": 2.0, "loss": -0.5},
        "num_actions": None,
    }
    log = write(tmp_path / "x.csv", rows, "t,node,level,mode,act,gain,loss")
    report = import_log(log, mapping, tmp_path / "out", max_rejects=0.25)
    env, found = report.card.environment, load_dataset(tmp_path / "out").rows["n"]
    assert read_rejects(tmp_path / "out") == [(4, "column level: it should lie in [0, 1]")]
    assert (
        env.obs_names == ("level", "mode_low", "mode_high") and env.obs_high == (1.0, 1.0, 1.0) and env.num_actions == 2
    )
    assert found["obs"].tolist() == [[0.5, 1, 0], [1.0, 0, 1]] and found["new_obs"][1].tolist() == [0, 0, 1]
    assert found["actions"].tolist() == [1, 0] and found["rewards"].tolist() == [1.0, -0.5]


def test_unknown_agents_are_rejected_where_the_environment_is_ours(tmp_path: Path) -> None:
    row = "{t},{node},{t},0,0,1,0.5,0.25,1"
    rows = [row.format(t=t, node=node) for t in range(4) for node in ("station_0", "guest")]
    mapping = {
        "environment": "channel_access",
        "env_config": {"num_stations": 2},
        "agent": "node",
        "observations": [{"heard": 4}, {"sent": 2}, "d2lt", "queue"],
        "actions": "act",
        "rewards": "gain",
    }
    log = write(tmp_path / "x.csv", rows, "t,node,heard,sent,act,gain,d2lt,queue,extra")
    with pytest.raises(DataError, match="unknown agent 'guest'; agents are station_0, station_1"):
        import_log(log, mapping, tmp_path / "out")
    report = import_log(log, mapping, tmp_path / "out", max_rejects=0.5)
    assert report.card.agents["station_0"].transitions == 3 and check(tmp_path / "out").notes == []


def test_too_many_rejects_write_nothing_but_the_list(tmp_path: Path) -> None:
    rows = ["nonsense", *lines(10)]
    log = write(tmp_path / "x.csv", rows)
    with pytest.raises(
        DataError, match=r"1 of 21 rows cannot be used, more than a share of 0\.01 .* line 2: 'nonsense'"
    ):
        import_log(log, MAPPING, tmp_path / "out", rejects=tmp_path / "list.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.csv", "x.csv"]
    assert (tmp_path / "list.csv").read_text().splitlines()[1].startswith("2,")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": {"column": "t", "step": "5 parsecs"}}, "import mapping: time"),
        ({"gap": "long"}, "import mapping: gap"),
        ({"rewards": {"gain": "much"}}, "import mapping: rewards"),
        ({"observations": [{"column": "level", "scall": 2}]}, "import mapping: observations"),
        ({"rewards": {"gain": 1, "cost": -1}}, "rewards = 'cost', but .* has no such column; it has t, node"),
    ],
)
def test_wrong_mappings_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_log(write(tmp_path / "x.csv", lines(4)), MAPPING | change)


def test_durations_are_read() -> None:
    assert [duration_ns(text) for text in ("5 ms", "9us", "1.5 s", "2 min")] == [
        5_000_000,
        9000,
        1_500_000_000,
        120 * 10**9,
    ]


def test_csv_parquet_and_frame_are_one(tmp_path: Path) -> None:
    log = write(tmp_path / "x.csv", lines())
    frame = pd.read_csv(log)
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=7)
    for name, source in (("a", log), ("b", tmp_path / "x.parquet"), ("c", frame)):
        import_log(source, MAPPING, tmp_path / name)
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")


def test_nothing_is_kept_but_the_window() -> None:
    sequence = Sequence(window=50, gap=None, from_start=False)
    for start in range(0, 5000, 50):
        t = np.arange(start, start + 50)
        rows = {"line": t, "agent": np.zeros(50, np.int64), "episode": np.zeros(50, np.int64), "t": t, "x": t * 1.0}
        given, _ = sequence.push(rows)
        assert len(sequence._kept["t"]) == 50
        assert given["t"].tolist() == list(range(start - 50, start)) or start == 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Four times the file needs less than 30 MB more."""
    (tmp_path / "m.json").write_text(json.dumps(MAPPING))
    peaks = []
    for factor in (1, 4):
        log = write(tmp_path / f"{factor}.csv", lines(150_000 * factor))
        peaks.append(peak_mb(log, tmp_path / "m.json", tmp_path / f"out_{factor}"))
    assert peaks[1] < peaks[0] + 30, peaks


def test_the_command_shows_what_it_understood(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log, mapping = EXAMPLE / "ap_log.csv", EXAMPLE / "mapping.yaml"
    command = ["data", "import", str(log), "--mapping", str(mapping)]
    assert run([*command, "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert (
        "rssi_dbm" in shown
        and "not used" in shown
        and "a quote is not closed" in shown
        and "1,992 joint steps" in shown
    )
    assert run([*command, "--dry-run", "--json", "--rejects", str(tmp_path / "r.csv")]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["out"] is None and found["report"]["rejected"] == 8 and len(found["report"]["first"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]
    assert run(command) == 2 and "either --out, where to write, or --dry-run" in capfd.readouterr().err
    assert run([*command, "--out", str(tmp_path / "d"), "--max-rejects", "0.001"]) == 2
    assert "8 of 6,031 rows cannot be used" in capfd.readouterr().err and not (tmp_path / "d").exists()


@pytest.mark.slow
def test_what_is_learned_is_better_than_the_log(tmp_path: Path) -> None:
    """In the example of the documentation, by the estimate and in the simulator that wrote the log."""
    config = {"num_stations": 3, "packet_slots": 10, "difs_slots": 2, "episode_slots": None}
    import_log(EXAMPLE / "ap_log.csv", EXAMPLE / "mapping_channel_access.yaml", tmp_path / "data")
    learned = {"paradigm": "independent", "cql_alpha": 0.1, "gamma": 0.9, "mode": "sample"}
    found: dict[str, Any] = {}
    for algorithm, chosen, iterations in (("bc", {}, 3), ("ctde_cql", learned, 2)):
        out = tmp_path / algorithm
        given: dict[str, Any] = {"env_config": config, "settings": chosen, "iterations": iterations}
        train(algorithm, "channel_access", out=out, data=tmp_path / "data", **given)
        measured = evaluate(out, "channel_access", config, num_envs=16, steps=2000, seed=1).metrics()
        found[algorithm] = estimate(out, tmp_path / "data"), measured
    (clone, log), (policy, better) = found["bc"], found["ctde_cql"]
    assert policy.ci95[0] > clone.ci95[1]
    assert better["throughput_ratio"]["ci95"][0] > log["throughput_ratio"]["ci95"][1] + 0.03
    assert better["collision_rate"]["ci95"][1] < log["collision_rate"]["ci95"][0] - 0.03


def test_logs_alone_are_enough_to_train_and_to_estimate(
    tmp_path: Path, example: tuple[Path, ImportReport], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = example
    settings = {"dataset_num_iters_per_learner": 20}
    for algorithm in ("bc", "ctde_cql"):
        row = train(algorithm, "imported", out=tmp_path / algorithm, data=out, settings=settings, iterations=1)
        assert row["iteration"] == 1
        found = estimate(tmp_path / algorithm, out, steps=20)
        assert np.isfinite(found.value) and found.unit == "reward per step"
    assert run(["evaluate", str(tmp_path / "bc"), "--env", "imported"]) == 2
    assert "known by its data alone cannot be run, but `estimate`" in capsys.readouterr().err
    with pytest.raises(UserError, match="evaluation_interval = 1, but imported is known by its data alone"):
        train("bc", "imported", out=tmp_path / "x", data=out, settings={"evaluation_interval": 1}, iterations=1)
    with pytest.raises(UserError, match=r"there is no environment 'other', and .* holds data of 'imported'"):
        train("bc", "other", out=tmp_path / "x", data=out, iterations=1)
