"""NOTICE: the log level between INFO and WARNING, for the few lines that an operator wants by default."""

import logging
from typing import Final

NOTICE: Final = 25

logging.addLevelName(NOTICE, "NOTICE")
