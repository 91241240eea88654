"""What is given to others: a wheel and an sdist with all that belongs to them, and nothing else."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import rllib_wireless

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return out


def test_the_wheel_holds_the_package_alone(built: Path) -> None:
    (path,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}
    package = ROOT / "rllib_wireless"
    wanted = {
        file.relative_to(ROOT).as_posix()
        for file in package.rglob("*")
        if file.suffix in (".py", ".toml", ".typed", ".css", ".html", ".jinja", ".js", ".json")
    }
    assert names == wanted


def test_the_sdist_holds_what_is_tested_and_documented(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"rllib_wireless", "tests", "docs", "examples", ".ci"}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "constraints.txt", "Makefile"} <= names
    assert not [name for name in names if name.endswith((".pyc", ".nbc", ".nbi", ".log"))]


def test_metadata_are_what_an_index_takes(built: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    (path,) = built.glob("*.whl")
    archive = zipfile.ZipFile(path)
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Version"] == rllib_wireless.__version__
    heading = f"## [{rllib_wireless.__version__}]"
    assert heading in (ROOT / "CHANGELOG.md").read_text()
