"""Kinds of text that requests carry, with their limits in characters."""

from typing import Annotated

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Email = Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
# Longer than any passphrase; argon2 would hash a megabyte just as gladly.
Password = Annotated[str, msgspec.Meta(min_length=8, max_length=1024)]
# For proving who one is: what is too short is wrong, not invalid.
GivenPassword = Annotated[str, msgspec.Meta(max_length=1024)]
Token = Annotated[str, msgspec.Meta(max_length=4096)]
Reason = Annotated[str, msgspec.Meta(max_length=500)]
