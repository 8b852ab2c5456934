"""Fonts of a stage: the same on each machine that has them, whatever else is installed.

Debian's fontconfig would take Noto Sans for everything as soon as it is there, and it comes with the letters
of all scripts (fonts-noto-core). Layouts that were designed with DejaVu Sans would move.
"""

from pathlib import Path
from typing import Final

_SYSTEM: Final = Path("/etc/fonts/fonts.conf")
_FILE: Final = "fonts.conf"

# What is weak comes after what a page names, and after fonts for its language. At the end stand a font for
# emoji, which others draw in black, and one for Arabic, which is not for headlines alone.
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
    """Make a configuration of fonts in `directory`; returns what a program that is to have it needs.

    That goes into its environment. A system without a fontconfig of its own is left alone.
    """
    if not _SYSTEM.exists():
        return {}
    file = directory / _FILE
    file.write_text(_CONFIGURATION)
    return {"FONTCONFIG_FILE": str(file)}
