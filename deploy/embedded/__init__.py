"""The whole suite on one machine, from the wheels in requirements.lock: ``make up``.

Read it in this order:

    cli.py          the commands: up, stores, down, status
    options.py      what TIMELOOM_PORT, TIMELOOM_HOST and TIMELOOM_DATA mean
    suite.py        what is started, in which order, and how it is stopped
    services.py     the five services and the environment that each one gets
    postgres.py     the three stores: their files, their command, when they are ready
    nats.py
    valkey.py
    databases.py    roles, databases and migrations
    first_key.py    the first organization and its API key
    keeper.py       keeps one process running: readiness, restart with back-off, stop
    child.py        starts and stops one process; tether.py makes it die with this one
    folder.py       the data folder: layout, lock, run record
    credentials.py  passwords and token keys, made once
    console.py      what the operator sees
    ports.py  probe.py  wheels.py   free ports; "is it ready?"; where the binaries are
"""
