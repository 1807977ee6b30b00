"""`python -m services.ingest`."""

from chassis.lifecycle import run
from services.ingest.app import build
from services.ingest.settings import Settings

if __name__ == "__main__":
    run("ingest", Settings, build)
