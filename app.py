"""The Space's entry: build the services, make the page, serve it."""

from alchemist_hub.ui.demo import launch
from alchemist_hub.ui.services import default_services

if __name__ == "__main__":
    launch(default_services())
