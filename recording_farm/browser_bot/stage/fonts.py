"""Font configuration of a stage, independent of other fonts on the machine.

Debian's fontconfig uses Noto Sans for everything once it is installed, and fonts-noto-core, which supports
all scripts, includes it. Layouts designed with DejaVu Sans would shift.
"""

from pathlib import Path
from typing import Final

_SYSTEM: Final = Path("/etc/fonts/fonts.conf")
_FILE: Final = "fonts.conf"

# Weak bindings rank below fonts that the page names and fonts for its language. Last come a color font for
# emoji, which other fonts draw in black, and an Arabic font that suits running text.
_CONFIGURATION: Final = f"""\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include>{_SYSTEM}</include>
  <match>
    <test name="family"><string>Noto Sans</string></test>
    <edit name="family" mode="prepend" binding="weak"><string>DejaVu Sans</string></edit>
  </match>
  <match>
    <test name="family"><string>Noto Serif</string></test>
    <edit name="family" mode="prepend" binding="weak"><string>DejaVu Serif</string></edit>
  </match>
  <match>
    <edit name="family" mode="append_last" binding="weak">
      <string>Noto Color Emoji</string>
      <string>Noto Naskh Arabic</string>
    </edit>
  </match>
</fontconfig>
"""


def write_fonts(directory: Path) -> dict[str, str]:
    """Write a font configuration to `directory` and return the environment variables that select it.

    Returns none on a system without a fontconfig configuration.
    """
    if not _SYSTEM.exists():
        return {}
    file = directory / _FILE
    file.write_text(_CONFIGURATION)
    return {"FONTCONFIG_FILE": str(file)}
