"""What the public interface says and hears, as msgspec structs, one module per noun.

Requests are `frozen=True, forbid_unknown_fields=True, kw_only=True`; limits are in the types
(text.py has the usual ones), so that the schema says them too. Replies are `frozen=True,
kw_only=True`, snake_case; instants are RFC 3339 text in UTC and durations are seconds (times.py);
absent values are null, never missing. A list is `Page[Item]` (pages.py).
"""
