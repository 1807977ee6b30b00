"""realtime: who is here, and what just changed.

owns       presence leases (Valkey) and the live history window (JetStream, memory); all rebuildable
serves     PresenceService, LiveService
announces  presence (PRESENCE, presence.v1.<org>) and live messages (LIVE, live.v1.<org>.<channel>)
listens to SESSIONS, JOBS, ACCOUNTS, PRESENCE
"""
