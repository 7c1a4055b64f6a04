"""A process that has imported dbt, and runs each command in a fork of itself: an import costs three seconds.

Commands come as lines of JSON on standard input: `arguments`, `environment`, `folder`, and `output`, a file
for what is printed. Each is answered with a line that has the exit code.
"""

from __future__ import annotations

import json
import os
import sys

# Importing dbt warns; this is no process of pytest's, where warnings are errors.
if __name__ == "__main__":
    from dbt.cli.main import cli


def _run(arguments: list[str], environment: dict[str, str], folder: str, output: str) -> None:
    """Be the command `dbt`; ends this process."""
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["dbt", *arguments]
    try:
        cli()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    """Run commands until there are no more."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(**json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
