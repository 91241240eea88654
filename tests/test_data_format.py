"""What is written is RLlib's own JSON, and reads back as it was, to the bit."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from data_sets import lines_of, open_card, small
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_wireless.data import DataWarning, check, collect, load_dataset, read_card
from rllib_wireless.data.collect import Behaviour
from rllib_wireless.data.format import COLUMNS, STATE, Columns, encode
from rllib_wireless.data.parse import parse_line
from rllib_wireless.data.scan import Scanner
from rllib_wireless.data.writer import DatasetWriter
from rllib_wireless.errors import DataError


def random_rows(random: np.random.Generator, count: int, bits: bool) -> Columns:
    """Rows with any finite float32 (`bits`), or with the usual small ones."""

    def floats(*shape: int) -> np.ndarray:
        if not bits:
            return random.normal(size=shape).astype(np.float32)
        values = random.integers(0, 2**32, shape, np.uint32).view(np.float32)
        return np.where(np.isfinite(values), values, np.float32(0))

    def column(name: str) -> np.ndarray:
        width = {"obs": 3, "actions": 2, None: None}[COLUMNS[name].width]
        shape = (count,) if width is None else (count, width)
        kind = np.dtype(COLUMNS[name].dtype).kind
        if kind == "f":
            return floats(*shape)
        return random.integers(0, 2, shape).astype(bool) if kind == "b" else random.integers(-(10**12), 10**12, shape)

    return {name: column(name) for name in COLUMNS}


def assert_equal(a: Columns, b: Columns) -> None:
    assert a.keys() == b.keys()
    for name, values in a.items():
        assert values.dtype == b[name].dtype, name
        assert values.tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("bits", [False, True])
def test_float32_round_trips_to_the_bit_on_both_paths(bits: bool) -> None:
    random = np.random.default_rng(0)
    for count in (1, 7, 5000):
        rows = random_rows(random, count, bits)
        line = encode(5, {"a": rows})
        assert_equal(parse_line(line)[1]["a"], rows)
        scanned = Scanner().scan(line)
        if not bits:
            assert scanned is not None, "the usual numbers should take the fast path"
        if scanned is not None:
            assert_equal(scanned[1]["a"], rows)


def test_every_power_of_two_and_its_neighbours_round_trip() -> None:
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    values = np.concatenate([powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(3e38))])
    rows = {"rewards": values, "t": np.arange(len(values))}
    assert_equal(parse_line(encode(0, {"a": rows}))[1]["a"], rows)


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e22, 1e-22, 1e23, 2**53, 2**53 + 1, 2**63, 5e-324, 0.1]),
)


@settings(max_examples=300)
@given(
    st.sampled_from(["rewards", "obs", "actions", "terminateds", "action_mask"]),
    st.one_of(
        st.lists(NUMBERS, max_size=5),
        st.lists(st.booleans(), max_size=5),
        st.lists(st.lists(st.one_of(NUMBERS, st.booleans()), max_size=3), max_size=4),
        st.lists(st.one_of(NUMBERS, st.booleans(), st.none(), st.text(max_size=3)), max_size=4),
    ),
    st.booleans(),
)
def test_the_fast_path_gives_what_orjson_gives_or_nothing(column: str, values: list[object], spaces: bool) -> None:
    text = json.dumps({"type": "MultiAgentBatch", "count": 3, "policy_batches": {"a": {"t": [1, 2], column: values}}})
    line = (text if spaces else text.replace(", ", ",").replace(": ", ":")).encode() + b"\n"
    scanned = Scanner().scan(line)
    if scanned is not None:
        count, batches = parse_line(line)
        assert scanned[0] == count and scanned[1].keys() == batches.keys()
        assert_equal(scanned[1]["a"], batches["a"])


@settings(max_examples=500)
@given(st.data())
def test_the_fast_path_never_takes_what_the_careful_path_refuses(data: st.DataObject) -> None:
    line = bytearray(encode(2, {"a": random_rows(np.random.default_rng(1), 2, False)}))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line) - 1))
        new = data.draw(
            st.sampled_from([b"", b"0", b"-", b".", b"e", b",", b"[", b"]", b"}", b'"', b" ", b"true", b"\x00"])
        )
        line[at : at + data.draw(st.integers(0, 2))] = new
    scanned = Scanner().scan(bytes(line))
    if scanned is not None:
        careful = parse_line(bytes(line))[1]
        for name, columns in scanned[1].items():
            assert_equal(columns, careful[name])


def test_a_number_that_is_not_finite_is_not_written() -> None:
    with pytest.raises(DataError, match="column a/rewards: holds a number that is not finite"):
        encode(1, {"a": {"t": np.arange(2), "rewards": np.array([1, np.nan], np.float32)}})


def test_rllibs_own_reader_reads_every_file(tmp_path: Path) -> None:
    from ray.rllib.offline.json_reader import JsonReader

    small(tmp_path / "joint")
    small(tmp_path / "all", rows="all")
    small(tmp_path / "split", split="agents")
    folders = [tmp_path / "joint", tmp_path / "all", *(tmp_path / "split" / f"station_{i}" for i in range(3))]
    for folder in folders:
        batches = list(JsonReader(str(folder)).read_all_files())
        assert len(batches) == len(lines_of(folder)) > 0
        dataset = load_dataset(folder)
        for agent, rows in dataset.rows.items():
            parts = [batch.policy_batches[agent] for batch in batches if agent in batch.policy_batches]
            for name, values in rows.items():
                read = np.concatenate([part[name] for part in parts]).astype(values.dtype)
                assert np.array_equal(read, values), name
        if dataset.joint_state is not None:
            assert sum(batch.count for batch in batches) == dataset.card.steps
            states = np.concatenate([batch.policy_batches[STATE]["obs"] for batch in batches])
            assert np.array_equal(states.astype(np.float32), dataset.joint_state["obs"])


def test_a_line_is_bounded(tmp_path: Path) -> None:
    collect(
        "channel_access", {"num_stations": 2}, [Behaviour("ac_be")], 500, tmp_path / "d", num_envs=2, fragment_steps=30
    )
    lines = lines_of(tmp_path / "d")
    assert max(line["count"] for line in lines) == 30
    assert max(len(batch["t"]) for line in lines for batch in line["policy_batches"].values()) <= 31


def test_lines_hold_one_fragment_of_one_episode(tmp_path: Path) -> None:
    small(tmp_path / "d")
    for line in lines_of(tmp_path / "d"):
        assert line["type"] == "MultiAgentBatch"
        assert len({episode for batch in line["policy_batches"].values() for episode in batch["eps_id"]}) == 1
    assert orjson.loads(encode(0, {})) == {"type": "MultiAgentBatch", "count": 0, "policy_batches": {}}


def test_a_data_set_may_have_many_files(tmp_path: Path) -> None:
    small(tmp_path / "one")
    lines = (tmp_path / "one" / "part-00000.json").read_bytes().splitlines(keepends=True)
    with DatasetWriter(tmp_path / "many", read_card(tmp_path / "one"), file_bytes=40_000) as writer:
        for line in lines:
            writer.write(line)
        card = writer.close()
    assert len(card.files) > 3 and sum(file.lines for file in card.files) == len(lines)
    assert check(tmp_path / "many").files == len(card.files)
    one, many = load_dataset(tmp_path / "one"), load_dataset(tmp_path / "many")
    for agent, rows in one.rows.items():
        assert_equal(many.rows[agent], rows)
    # Only the last file can have been cut off by a killed writer.
    open_card(tmp_path / "many")
    first, last = card.files[0], card.files[-1]
    for file in (first, last):
        path = tmp_path / "many" / file.name
        content = path.read_bytes()
        path.write_bytes(content[:-50])
        if file is last:
            with pytest.warns(DataWarning, match="skipped"):
                load_dataset(tmp_path / "many")
        else:
            with pytest.raises(DataError, match=f"{file.name}, line {file.lines}: the line is broken"):
                load_dataset(tmp_path / "many")
        path.write_bytes(content)


def test_data_needs_neither_ray_nor_torch() -> None:
    code = (
        "import rllib_wireless.data, sys; print([m for m in ('ray', 'torch', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
