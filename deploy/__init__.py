"""Ways to run Timeloom: ``embedded`` (one machine, no containers), a Dockerfile and a compose file.

``postgres/``, ``nats/`` and ``valkey/`` hold the one configuration of each store that all the ways
share; only ports, folders and passwords differ, and those come from the environment.
"""
