"""`python -m services.realtime`."""

from chassis.lifecycle import run
from services.realtime.app import build
from services.realtime.settings import Settings

if __name__ == "__main__":
    run("realtime", Settings, build)
