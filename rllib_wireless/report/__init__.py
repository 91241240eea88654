"""One HTML page about a folder: a training run, a sweep, a paper's results or a data set. It fetches nothing and runs no script."""

from rllib_wireless.report.build import build, report

__all__ = ["build", "report"]
