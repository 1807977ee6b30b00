"""`python -m services.sessions`."""

from chassis.lifecycle import run
from services.sessions.app import build
from services.sessions.settings import Settings

run("sessions", Settings, build)
