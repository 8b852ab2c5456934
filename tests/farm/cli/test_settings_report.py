import re
from pathlib import Path

from click.testing import CliRunner

from recording_farm.farm.cli.main import cli
from recording_farm.farm.cli.settings_report import as_markdown, as_text, effective, variable
from recording_farm.farm.config.settings import Settings, about, is_secret
from testkit.settings import settings_with

ROOT = Path(__file__).parents[3]


def test_page_of_settings_should_be_what_is_generated() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == as_markdown(), (
        "farm config --markdown > docs/settings.md"
    )


def test_each_setting_should_be_on_the_page_once() -> None:
    names = re.findall(r"^\| `(FARM_\w+)`", as_markdown(), flags=re.MULTILINE)
    assert sorted(names) == sorted(map(variable, Settings.model_fields))


def test_each_module_of_a_setting_should_exist() -> None:
    modules = {module for name in Settings.model_fields for module in about(name).modules}
    assert [module for module in modules if not (ROOT / "recording_farm" / module).is_file()] == []
    assert [name for name in Settings.model_fields if not about(name).modules] == []


def test_readme_should_name_real_settings_only() -> None:
    named = set(re.findall(r"\bFARM_[A-Z_]*[A-Z]\b", (ROOT / "README.md").read_text()))
    assert named - set(map(variable, Settings.model_fields)) == set()


def test_effective_settings_should_hide_secrets(tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path, "redis://:hunter2@db", api_keys="a:hunter2", store_secret="hunter2", port="9000",
        store_access_key="hunter2", secret_key="hunter2hunter2hunter2", livekit_secret="hunter2",
        store_url="s3://films", page_secret="hunter2hunter2hunter2", metrics_token="hunter2hunter2hunter2",
    )  # fmt: skip
    text = as_text(settings, {"FARM_PORT": "9000"})
    assert "hunter2" not in text
    assert "hunter2" not in str(effective(settings, {}))
    assert re.search(r"FARM_PORT +9000$", text, flags=re.MULTILINE)
    assert re.search(r"FARM_RETENTION +604800  \(default\)$", text, flags=re.MULTILINE)


def test_defaults_should_have_the_units_that_their_settings_accept() -> None:
    shown = dict(re.findall(r"^\| `FARM_(\w+)` \| [^|]* \| [^|]* \| `([^`]*)` ", as_markdown(), re.MULTILINE))
    assert {name: shown[name] for name in ("RETENTION", "NODE_PATIENCE", "DISK_RESERVE", "STAGE_MEMORY")} == {
        "RETENTION": "7d", "NODE_PATIENCE": "1h", "DISK_RESERVE": "2G", "STAGE_MEMORY": "4G",
    }  # fmt: skip
    assert shown["LINK_SECONDS"] == "604800"  # takes seconds alone


def test_every_setting_that_is_a_secret_by_its_name_should_be_hidden() -> None:
    by_name = {name for name in Settings.model_fields if re.search("secret|token|password|_keys$", name)}
    assert {name for name in by_name if not is_secret(name)} == set()


def test_config_should_print_json(tmp_path: Path) -> None:
    printed = CliRunner(env={"FARM_DATA_DIR": str(tmp_path), "FARM_SLOTS": "3"}).invoke(
        cli, ["config", "--json"]
    )
    assert printed.exit_code == 0
    assert '"FARM_SLOTS": {"value": 3, "set": true}' in printed.stdout
