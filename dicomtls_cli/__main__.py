"""`dicomtls`, and `python -m dicomtls_cli`."""

import gc
import os
import sys
from typing import NoReturn

_PARTING = 1.0  # seconds for what is left to be written


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
    import threading

    codes = [code]
    if threading.active_count() == 1:
        _flush(codes)
    else:  # one that is stuck in a pipe which nobody reads holds what flushing would wait for
        flushing = threading.Thread(target=_flush, args=(codes,), daemon=True)
        flushing.start()
        flushing.join(_PARTING)
    os._exit(max(codes))


def _flush(codes: list[int]) -> None:
    """Write out what is left in the log and the streams; add 1 to `codes` where that cannot be."""
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # closed by the shell: `>&-`
                stream.flush()
        except (OSError, ValueError):
            codes.append(1)


if __name__ == "__main__":
    main()
