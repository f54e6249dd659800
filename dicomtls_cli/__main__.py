"""`dicomtls`, and `python -m dicomtls_cli`."""

import gc
import os
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly also while Python still imports."""
    # Neither imports nor a transfer make cycles; looking for some after every 700 objects costs 3 % of each.
    gc.set_threshold(50_000)
    try:
        from dicomtls_cli.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        _leave(130)
    except SystemExit as leaving:
        _leave(int(leaving.code or 0))


def _leave(code: int) -> NoReturn:
    """End the process with `code`, without taking the interpreter apart: that is a tenth of a short command.

    Whatever must be finished was: files and sockets are closed by those who opened them, and what prints
    flushes. Threads that are left are daemons.
    """
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # closed by the shell: `>&-`
                stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()
