"""`python -m rllib_wireless`."""

from rllib_wireless.cli import main

if __name__ == "__main__":
    main()
