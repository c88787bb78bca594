"""The Space's entry: build the services, make the page, serve it until it is told to end."""

import sys

from alchemist_hub.errors import HubError
from alchemist_hub.ui.demo import launch
from alchemist_hub.ui.services import default_services

if __name__ == "__main__":
    try:
        launch(default_services())
    except HubError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
