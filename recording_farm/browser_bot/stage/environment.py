"""The environment that pages find: devices, a language, a time zone, and who answers for credentials."""

from dataclasses import dataclass
from typing import Any

from recording_farm.browser_bot.stage import devices


@dataclass(frozen=True)
class Environment:
    """What a browser tells its pages of where it runs.

    With `devices` pages find a microphone and a camera, which they may use without a question, and else none.
    `locale` is a BCP 47 tag such as `de-AT`: the language that pages are asked for in, and by which scripts
    format dates and numbers; None is en-US. `timezone` is an IANA name; None is the machine's. Without
    `credentials` no server's question for a user name and a password (401) is heard: Chromium would ask the
    person. With them it is asked by the protocol (CDP's `Fetch.authRequired`), and whoever sets it answers.
    """

    devices: bool = False
    locale: str | None = None
    timezone: str | None = None
    credentials: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """What a browser needs in its environment."""
        return {"TZ": self.timezone} if self.timezone else {}

    @property
    def preferences(self) -> dict[str, Any]:
        """What a browser's profile needs in its Preferences.

        The language stands there for shared workers, which an emulated locale does not reach.
        """
        found: dict[str, Any] = devices.PREFERENCES if self.devices else {}
        if self.locale:
            found = {**found, "intl": {"selected_languages": self.locale, "accept_languages": self.locale}}
        return found


DEFAULT_ENVIRONMENT = Environment()
