"""The wheel: it builds, holds the house and nothing else, and its help needs nothing but Python."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_four_packages_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"messages", "runtime", "actors", "tools"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in tops
        for path in (ROOT / package).rglob("*.py")
        if not path.name.startswith(".")
    }
    assert sources <= set(names)


def test_help_of_the_installed_wheel_needs_only_the_standard_library(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    done = subprocess.run([sys.executable, *pip, "--target", str(target), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # -I and -S leave the standard library alone on the path: no site-packages, no working directory.
    run = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('tools.cli', run_name='__main__')"
    for argv, words in ((["--help"], "commands:"), (["--version"], "nightfold 0."), (["stop", "--help"], "example:")):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", run, str(target), *argv], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
