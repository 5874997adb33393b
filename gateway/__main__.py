"""`python -m gateway`, and the `gateway` command."""

import gc

# Starting makes many objects and no garbage: looking for it takes a seventh of the time.
gc.disable()

from gateway.cli.main import main  # noqa: E402 - what is imported is what takes the time

gc.enable()

if __name__ == "__main__":
    main()
