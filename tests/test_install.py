"""A clean install, as a stranger would make it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_works(tmp_path: Path) -> None:
    """Its dependencies are those of this environment; its code and its configurations are those
    of the wheel, built and installed by pip."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # Installing gigabytes anew would need the network: the packages installed here serve.
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "installed.pth").write_text("\n".join(paths))
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed",
         "--no-build-isolation", str(ROOT)],
        check=True,
        cwd=tmp_path,
    )  # fmt: skip

    # A path to a working tree would go before what was installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    where = run(python, "-c", "import raymlops; print(raymlops.__file__)").strip()
    assert Path(where).is_relative_to(site)
    raymlops = tmp_path / "venv" / "bin" / "raymlops"
    assert "Live a model's whole life" in run(raymlops, "--help")
    assert "_configs/base.yaml" in run(raymlops, "config", "explain", "serve.port")
    template = "from importlib.resources import files; import raymlops.monitor.report as report; "
    found = run(python, "-c", f"{template}print((files(report) / 'page.html.j2').is_file())")
    assert found == "True\n"
