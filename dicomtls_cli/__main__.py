"""`dicomtls`, and `python -m dicomtls_cli`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly also while Python still imports."""
    try:
        from dicomtls_cli.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
