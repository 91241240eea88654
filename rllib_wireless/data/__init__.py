"""Data sets: recorded, written as RLlib JSON with a card, checked, and loaded into contiguous arrays.

`rllib_wireless.data.sampling.TensorIterator`, which feeds Learners, is imported from there, as it brings torch along.
"""

from typing import TYPE_CHECKING, Any

from rllib_wireless.data.card import Card, EnvironmentCard, check_environment, environment_card, read_card
from rllib_wireless.data.check import CheckReport, check
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.convert import convert
from rllib_wireless.data.exporter import export
from rllib_wireless.data.import_mapping import ImportMapping
from rllib_wireless.data.info import info
from rllib_wireless.data.merge import merge
from rllib_wireless.data.reader import DataWarning
from rllib_wireless.data.recorder import Recorder
from rllib_wireless.data.store import Dataset, cell_folders, client_folders, load_dataset

if TYPE_CHECKING:
    from rllib_wireless.data.importer import import_data

__all__ = [
    "Behaviour",
    "Card",
    "CheckReport",
    "DataWarning",
    "Dataset",
    "EnvironmentCard",
    "ImportMapping",
    "Recorder",
    "check",
    "cell_folders",
    "check_environment",
    "client_folders",
    "collect",
    "convert",
    "environment_card",
    "export",
    "import_data",
    "info",
    "load_dataset",
    "merge",
    "read_card",
]


def __getattr__(name: str) -> Any:
    # It brings pyarrow along, which takes a third of a second that reading and writing data can do without.
    if name == "import_data":
        from rllib_wireless.data.importer import import_data

        return import_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
