"""The environment that pages see: devices, language, time zone, and whether HTTP authentication works."""

from dataclasses import dataclass
from typing import Any

from recording_farm.browser_bot.stage import devices


@dataclass(frozen=True)
class Environment:
    """The devices, locale, time zone and HTTP authentication of a browser.

    With `devices`, pages have a microphone and a camera and need no permission; without, they have none.
    `locale` is a BCP 47 tag such as `de-AT`, for Accept-Language and for formatting dates and numbers; None
    is en-US. `timezone` is an IANA name; None is the machine's. Without `credentials`, Chromium passes a
    server's request for a password (401) to the page instead of showing a dialog. With them, it asks through
    the protocol (CDP's `Fetch.authRequired`), and the caller must answer.
    """

    devices: bool = False
    locale: str | None = None
    timezone: str | None = None
    credentials: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the browser."""
        return {"TZ": self.timezone} if self.timezone else {}

    @property
    def preferences(self) -> dict[str, Any]:
        """The Preferences of the browser's profile.

        They contain the language because an emulated locale does not reach shared workers.
        """
        found: dict[str, Any] = devices.PREFERENCES if self.devices else {}
        if self.locale:
            found = {**found, "intl": {"selected_languages": self.locale, "accept_languages": self.locale}}
        return found


DEFAULT_ENVIRONMENT = Environment()
