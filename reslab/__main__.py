"""`python -m reslab` is the `reslab` command."""

from reslab.cli import main

if __name__ == "__main__":
    main()
