"""Settings as tests want them."""

import os
from pathlib import Path
from typing import Any

import pytest

from recording_farm.farm.config.settings import Settings

API_KEYS = "acme:acme-key,other:other-key"


def settings_with(data_dir: Path, redis_url: str | None, **values: Any) -> Settings:
    """Settings as tests want them; `values` are given as in the environment."""
    given = {"data_dir": data_dir, "redis_url": redis_url, "api_keys": API_KEYS, "node": "node-1"} | values
    if any(name.startswith("FARM_") for name in os.environ):
        return Settings.model_validate(given)
    # To look for each setting in the environment takes 6 ms, in thousands of tests.
    settings = Settings.__new__(Settings)
    Settings.__pydantic_validator__.validate_python(given, self_instance=settings)
    return settings


def set_environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Have jobs that run in this process be those of the node of these settings, with its data and Redis."""
    monkeypatch.setenv("FARM_REDIS_URL", settings.redis_address)
    monkeypatch.setenv("FARM_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("FARM_NODE", settings.node)
    if settings.store_url is not None:
        monkeypatch.setenv("FARM_STORE_URL", settings.store_url)
