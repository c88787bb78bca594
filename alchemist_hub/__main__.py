"""`python -m alchemist_hub` is the `alchemist` command: what torchrun starts."""

from alchemist_hub.cli import main

if __name__ == "__main__":
    main()
