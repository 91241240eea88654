"""Damaged files either load with valid arrays or raise DataError, never anything else."""

import contextlib
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_sets import open_card, seal_card, small

from rllib_wireless.data import DataWarning, check, load_dataset
from rllib_wireless.data.format import CARD, COLUMNS
from rllib_wireless.data.store import Dataset
from rllib_wireless.errors import DataError

FILE = "part-00000.json"
NASTY = [
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-1e-999",
        b"null",
        b'"x"',
        b"[]",
        b"{}",
        b"[[]]",
        b"true",
        b"-0",
        b"01",
        b"1.",
        b"0x1",
    ),
    *(b"9223372036854775807", b"9223372036854775808", b"-1", b"1e22", b'"\\ud800"', b"\xff\xfe", b"\x00", b"[" * 3000),
]
TOKEN = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?|true|false|\"\w+\"|[\[\]{}:,]")


def mutate(data: bytes, r: random.Random) -> bytes:
    """One to three random damages."""
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        if len(data) < 20:
            break
        a, b = r.randrange(len(data)), r.randrange(len(data))
        match r.randrange(7):
            case 0:  # flip a bit
                data = data[:a] + bytes([data[a] ^ (1 << r.randrange(8))]) + data[a + 1 :]
            case 1:  # truncate
                data = data[:a]
            case 2:  # delete
                data = data[:a] + data[a + r.randrange(1, 200) :]
            case 3:  # splice
                chunk = data[b : b + r.randrange(1, 300)]
                data = data[:a] + chunk + data[a + r.choice([0, len(chunk)]) :]
            case 4:  # swap two values
                tokens = list(TOKEN.finditer(data))
                if len(tokens) > 1:
                    x, y = sorted(r.sample(tokens, 2), key=lambda token: token.start())
                    data = data[: x.start()] + y[0] + data[x.end() : y.start()] + x[0] + data[y.end() :]
            case 5:  # put something nasty
                tokens = list(TOKEN.finditer(data))
                if tokens:
                    x = r.choice(tokens)
                    data = data[: x.start()] + r.choice(NASTY) + data[x.end() :]
            case _:  # damage the order of lines
                lines = data.splitlines(keepends=True)
                lines[r.randrange(len(lines))] = r.choice(lines)
                data = b"".join(lines)
    return data


def assert_valid(dataset: Dataset) -> None:
    """What training relies on."""
    env = dataset.card.environment
    assert dataset.num_transitions > 0
    for rows in dataset.rows.values():
        assert set(rows) == set(dataset.card.columns)
        count = len(rows["t"])
        for name, values in rows.items():
            width = {"obs": (env.obs_size,), "actions": (env.num_actions,), None: ()}[COLUMNS[name].width]
            assert values.shape == (count, *width) and values.dtype == COLUMNS[name].dtype
            assert values.flags.c_contiguous
            if values.dtype.kind == "f":
                assert np.isfinite(values).all()
        assert rows["action_mask"][np.arange(count), rows["actions"]].all()
        for name in ("obs", "new_obs"):
            assert (rows[name] >= np.array(env.obs_low, np.float32)).all()
            assert (rows[name] <= np.array(env.obs_high, np.float32)).all()
        assert (rows["new_t"] > rows["t"]).all() and (rows["duration"] >= 0).all()


def outcome(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        try:
            dataset = load_dataset(folder, use_cache=False)
        except DataError as error:
            assert "\n" not in str(error)
            return "refused"
    assert_valid(dataset)
    return "loaded"


@pytest.mark.parametrize("complete", [True, False])
def test_damaged_files(tmp_path: Path, complete: bool) -> None:
    folder = tmp_path / "d"
    small(folder, 48)
    original = (folder / FILE).read_bytes()
    if not complete:
        open_card(folder)
    outcomes = []
    for seed in range(700):
        (folder / FILE).write_bytes(mutate(original, random.Random(seed)))
        if complete and seed % 5:  # sealed anew, or else the checksum catches everything
            seal_card(folder)
        outcomes.append(outcome(folder))
    assert outcomes.count("refused") > 100 and outcomes.count("loaded") > 20


def test_damaged_cards(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    small(folder, 48)
    original = (folder / CARD).read_bytes()
    outcomes = []
    for seed in range(400):
        (folder / CARD).write_bytes(mutate(original, random.Random(seed)))
        outcomes.append(outcome(folder))
        with contextlib.suppress(DataError):
            check(folder)
    assert outcomes.count("refused") > 100 and outcomes.count("loaded") > 20


def test_damaged_cache_entries_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLIB_WIRELESS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "d"
    small(folder, 48)
    expected = load_dataset(folder)
    (entry,) = (tmp_path / "cache").iterdir()
    original = entry.read_bytes()
    header = 8 + int.from_bytes(original[:8], "little")
    for seed in range(200):
        r = random.Random(seed)
        # The numbers carry no checksum, so only the header and the length are damaged.
        head = mutate(original[:header], r)
        entry.write_bytes(head + original[header:] if seed % 2 else original[: r.randrange(len(original))])
        rows = load_dataset(folder).rows["station_1"]
        for name, values in expected.rows["station_1"].items():
            assert rows[name].shape == values.shape and rows[name].dtype == values.dtype
