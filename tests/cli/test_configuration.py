from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.errors import ConfigError
from tests.cli.commands import CONFIG, run, run_json


def test_config_tells_where_a_setting_comes_from(config: Path) -> None:
    (port,) = run_json("config", "explain", "serve.port", "-c", config)
    assert port == {"key": "serve.port", "value": 9000, "origin": f"{config}:11"}
    (host,) = run_json("config", "explain", "serve.host", "--set", "serve.host=0.0.0.0")
    assert host["origin"] == "option --set serve.host"
    with pytest.raises(ConfigError, match=r"did you mean 'serve.port'\?"):
        run("config", "explain", "serve.prot")


def test_names_that_nothing_could_ask_for_are_refused(config: Path) -> None:
    # They were trained and made champion, and could neither be deployed nor removed.
    config.write_text(CONFIG.replace("model: tumours", "model: a@b"))
    with pytest.raises(ConfigError, match=r"model 'a@b' cannot be part of a URL, nor of NAME@VER"):
        run("config", "check", config)
    config.write_text(CONFIG.replace("dataset: tumours", "dataset: ../x"))
    with pytest.raises(ConfigError, match=r"dataset '\.\./x' cannot be part of a URL"):
        run("config", "check", config)


def test_every_shipped_configuration_is_valid() -> None:
    for environment in ("development", "production"):
        run("config", "explain", "serve", "--env", environment, "-c", "configs/flights.yaml")
    with pytest.raises(ConfigError, match="there is no environment 'prod'"):
        run("config", "explain", "serve", "--env", "prod")
