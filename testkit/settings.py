"""Settings as tests want them."""

from pathlib import Path
from typing import Any

from farm.config.settings import Settings

API_KEYS = "acme:acme-key,other:other-key"


def settings_with(data_dir: Path, redis_url: str | None, **values: Any) -> Settings:
    """Settings as tests want them; `values` are given as in the environment."""
    return Settings.model_validate(
        {"data_dir": data_dir, "redis_url": redis_url, "api_keys": API_KEYS, "node": "node-1"} | values
    )
