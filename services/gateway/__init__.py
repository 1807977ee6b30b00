"""gateway: the only HTTP edge, and the owner of accounts.

Owns      organizations, people, memberships, invitations, API keys, refresh tokens, devices, audit
Serves    HTTP, WebSocket and server-sent events, see /openapi.json
Announces accounts.v1.<org>: MemberChanged, UserErased, CredentialRevoked
Listens   accounts (to drop what it cached), its work, live messages (rt.v1.<org>.>)
"""
