"""The profile of a stage's Chromium: preferences that disable its own windows and prompts.

Every Chromium and Chrome reads the profile's `Preferences` and the user data directory's `Local State` at
each start; neither needs root. Debian's `/etc/chromium/master_preferences` only applies to the first run of a
user data directory, which Playwright skips with `--no-first-run`. A managed policy (`/etc/chromium/policies`)
overrides both, but only root can set one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_BLOCK: Final = 2
"""ContentSetting in components/content_settings/core/common/content_settings.h."""

# Content settings whose prompt is a chooser, which --deny-permission-prompts does not cover.
_CHOOSERS: Final = (
    "bluetooth_guard",
    "bluetooth_scanning",
    "file_system_read_guard",
    "file_system_write_guard",
    "hid_guard",
    "serial_guard",
    "smart_card_guard",
    "usb_guard",
)
_OTHERS: Final = (
    "auto_picture_in_picture",
    "automatic_downloads",
    "background_fetch",
    "captured_surface_control",
    "notifications",
    "payment_handler",
    "popups",
)

PREFERENCES: Final[Mapping[str, Any]] = {
    "translate": {"enabled": False},
    "credentials_enable_service": False,
    "credentials_enable_autosignin": False,
    "credentials_enable_passkeys": False,
    "credentials_enable_automatic_passkey_upgrades": False,
    "profile": {
        "password_manager_leak_detection": False,
        "default_content_setting_values": dict.fromkeys((*_CHOOSERS, *_OTHERS), _BLOCK),
        # No offer to restore pages after a kill.
        "exit_type": "Normal",
    },
    "printing": {"enabled": False},
    "browser": {"enable_spellchecking": False, "has_seen_welcome_page": True, "check_default_browser": False},
    "autofill": {"profile_enabled": False, "credit_card_enabled": False},
    "payments": {"can_make_payment_enabled": False},
    "signin": {"allowed": False, "allowed_on_next_startup": False},
    "search": {"suggest_enabled": False},
    "alternate_error_pages": {"enabled": False},
    "download": {"prompt_for_download": False},
    "download_bubble": {"partial_view_enabled": False},
    "safebrowsing": {"enabled": False},
    "privacy_sandbox": {"m1": {"prompt_suppressed": 1}},
    "webrtc": {"event_logs_collection": False},
}
"""The contents of `Default/Preferences`."""

LOCAL_STATE: Final = {
    "browser": {"enabled_labs_experiments": []},
    "background_mode": {"enabled": False},
}
"""The contents of `Local State`."""

_NO_CREDENTIALS: Final = {"auth": {"schemes": "none"}}
"""Disables all HTTP authentication schemes (basic, digest, ntlm, negotiate)."""

_SHIMS: Final = {
    # Chromium asks xdg-settings for the handler of a URL with another scheme. If that is Chromium itself,
    # nothing happens; otherwise it prompts the user or starts a program that draws on the display.
    "xdg-settings": "echo yes",
    "xdg-open": "exit 3",
    "xdg-email": "exit 3",
    "xdg-mime": "exit 3",
}


def write_profile(directory: Path, preferences: Mapping[str, Any], *, credentials: bool) -> None:
    """Create a user data directory, which must not exist, with `preferences` in addition to the defaults.

    Without `credentials` a page sees the 401 of a server that requires a password.
    """
    state = LOCAL_STATE if credentials else _merged(LOCAL_STATE, _NO_CREDENTIALS)
    profile = directory / "Default"
    profile.mkdir(parents=True)
    (profile / "Preferences").write_text(json.dumps(_merged(PREFERENCES, preferences)))
    (directory / "Local State").write_text(json.dumps(state))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees of preferences; values of `other` win."""
    merged = {**one, **other}
    for name in one.keys() & other.keys():
        if isinstance(one[name], Mapping) and isinstance(other[name], Mapping):
            merged[name] = _merged(one[name], other[name])
    return merged


def write_shims(directory: Path) -> None:
    """Write programs to `directory`, which must not exist, that replace the desktop's through PATH."""
    directory.mkdir()
    for name, command in _SHIMS.items():
        program = directory / name
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o700)
