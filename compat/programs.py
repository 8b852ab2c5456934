"""Programs of Node's that compat/setup has installed."""

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


NODE_MODULES = HERE / "node_modules"


def node(*arguments: str, **environment: str) -> str:
    """What a program of Node's prints; it is run in this folder."""
    done = subprocess.run(
        arguments, cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
