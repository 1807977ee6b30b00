"""`python -m services.scheduler`."""

from chassis.lifecycle import run
from services.scheduler.app import build
from services.scheduler.settings import Settings

run("scheduler", Settings, build)
