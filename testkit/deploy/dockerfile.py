"""The instructions of a Dockerfile, as far as this project writes them."""

from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction: `RUN` for instance, and what follows it."""

    name: str
    arguments: str


def instructions(file: Path) -> list[Instruction]:
    """All instructions, in their order; a line that ends with a backslash goes on."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in whole]
