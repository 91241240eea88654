"""`rllib-wireless data merge`: several data sets of one environment become one, their episodes numbered one after another."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import orjson

from rllib_wireless import storage
from rllib_wireless.data.card import AgentCard, BehaviourCard, Card, check_environment, read_card, versions, write_card
from rllib_wireless.data.format import STATE
from rllib_wireless.data.reader import data_files
from rllib_wireless.data.store import load_dataset
from rllib_wireless.data.writer import DatasetWriter, make_empty_folder, replaced_when_whole
from rllib_wireless.errors import DataError, UserError


def merge(sources: Sequence[Path | str], out: Path | str) -> Card:
    """Join data sets of one environment.

    What only some of them recorded, the joint state or the probabilities of actions, is left out.

    Args:
        sources: Their folders or URIs: joint data, one agent's own, or folders of those (`--split agents`), all of one kind.
        out: Folder to write; it must not exist, or be empty.

    Returns:
        The card of `out`.

    Raises:
        UserError: At fewer than two of them.
        DataError: Where they do not fit together, or one is incomplete or broken.
    """
    if len(sources) < 2:
        raise UserError(f"{len(sources)} data set was given, but merging takes at least two")
    folders = [storage.local(source) for source in sources]
    cards = [read_card(folder) for folder in folders]
    for folder, card in zip(folders, cards, strict=True):
        _check(card, cards[0], folder)
    split = cards[0].kind == "clients"
    # An agent's own files number episodes as all agents' do, so the largest number is looked for in all of them.
    parts = [[folder / agent for agent in cards[0].agents] if split else [folder] for folder in folders]
    counts = [max(_last_episode(part) + 1 for part in own) for own in parts]
    offsets = [0, *itertools.accumulate(counts)][:-1]
    card = _joined(cards, offsets)
    with replaced_when_whole(Path(out)) as folder:
        if not split:
            return _write(folders, card, offsets, folder)
        make_empty_folder(folder)
        for agent in card.agents:
            own = [place / agent for place in folders]
            _write(own, _joined([read_card(place) for place in own], offsets), offsets, folder / agent)
        write_card(card, folder)
    return card


def _check(card: Card, first: Card, folder: Path) -> None:
    """That a data set fits to the first one."""
    if not card.complete:
        raise DataError("it is incomplete: its collecting did not come to its end", folder)
    check_environment(card, first.environment, folder)
    for name, has, wants in (
        ("kind", card.kind, first.kind),
        ("rows", card.rows, first.rows),
        ("agents", ", ".join(card.agents), ", ".join(first.agents)),
    ):
        if has != wants:
            raise DataError(f"its {name} are {has}, but the first data set's {wants}", folder)


def _last_episode(folder: Path) -> int:
    """The largest number of an episode; reading it checks the data."""
    return max(int(rows["eps_id"].max(initial=-1)) for rows in load_dataset(folder).rows.values())


def _joined(cards: Sequence[Card], offsets: Sequence[int]) -> Card:
    """The card of all of them; files are those of its writer."""
    first = cards[0]
    sizes = {card.state_size for card in cards}
    return dataclasses.replace(
        first,
        columns=tuple(name for name in first.columns if all(name in card.columns for card in cards)),
        state_size=first.state_size if len(sizes) == 1 else None,
        agents={
            agent: AgentCard(
                sum(card.agents[agent].transitions for card in cards), sum(card.agents[agent].dropped for card in cards)
            )
            for agent in first.agents
        },
        action_prob="exact" if all(card.action_prob == "exact" for card in cards) else "absent",
        policies=tuple(
            _shifted(policy, offset) for card, offset in zip(cards, offsets, strict=True) for policy in card.policies
        ),
        seed=None,
        num_envs=None,
        steps=sum(card.steps for card in cards),
        episodes=sum(card.episodes for card in cards),
        metrics={},  # those of a pool are no mean of its parts'
        versions=versions(),
        source=None,
        files=(),
    )


def _shifted(policy: BehaviourCard, offset: int) -> BehaviourCard:
    if policy.episodes is None:
        return policy
    first, last = policy.episodes
    return dataclasses.replace(policy, episodes=(first + offset, last + offset))


def _write(folders: Sequence[Path], card: Card, offsets: Sequence[int], out: Path) -> Card:
    """Write all lines again, with other numbers of episodes."""
    with DatasetWriter(out, card) as writer:
        for folder, offset in zip(folders, offsets, strict=True):
            for path in data_files(folder, read_card(folder)):
                with path.open("rb") as file:
                    for line in file:
                        writer.write(_renumbered(line, card, offset))
        return writer.close()


def _renumbered(line: bytes, card: Card, offset: int) -> bytes:
    content = orjson.loads(line)
    batches = content["policy_batches"]
    if card.state_size is None:
        batches.pop(STATE, None)
    for name, batch in batches.items():
        batch["eps_id"] = [number + offset for number in batch["eps_id"]]
        if name != STATE:
            content["policy_batches"][name] = {column: batch[column] for column in card.columns}
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
