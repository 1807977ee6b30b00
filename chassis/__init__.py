"""What every service stands on; it knows no service.

lifecycle   start in order, run loops, drain on SIGTERM      errors    the six kinds
settings    typed settings with units                        clock     the only reader of time
rpc         gRPC servers and calls: deadline, auth, errors   ids       the only source of ids
identity    who is calling: internal tokens                  retry     named retry policies
bus         JetStream: streams, atomic batches               telemetry every name we emit, and spans
subscription  pull loop: ack, nak, dead letter               log       JSON logs with trace ids
outbox      state and announcement in one commit             health    /livez /readyz /metrics
relay       carries each stream's announcements to the bus   postgres  pools and constraint errors
inbox       each message takes effect once                   valkey    client and Lua scripts
deadletters what left processing by failure                  jobs      the suite's own jobs
"""
