"""`python -m dicomtls_cli` is `dicomtls`."""

from dicomtls_cli.cli import main

if __name__ == "__main__":
    main()
