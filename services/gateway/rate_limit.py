"""Rate limits: token buckets in this process, so N replicas allow N times as much.

The library `limits` was tried: its in-process store walks every key on every hit and reads the
machine's clock. A bucket is ten lines and costs half a microsecond.
"""

from collections import OrderedDict
from typing import Final

from chassis.clock import Clock
from chassis.errors import Exhausted
from services.gateway.auth import Caller
from services.gateway.settings import Settings

# When full, the bucket that was used longest ago is forgotten, which can only be too generous.
REMEMBERED: Final = 20_000


class Buckets:
    """One bucket per key: holds `burst` tokens, and refills in `seconds`."""

    def __init__(self, *, burst: int, seconds: float, clock: Clock) -> None:
        self._burst = float(burst)
        self._per_second = burst / seconds
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Takes a token; 0 if there was one, else the seconds until there is."""
        now = self._clock.monotonic()
        left, since = self._buckets.get(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        wait = 0.0
        if left >= 1:
            left -= 1
        else:
            wait = (1 - left) / self._per_second
        self._buckets[key] = (left, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return wait


class RateLimits:
    """Every limit there is."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        minute = 60.0
        self._requests = Buckets(burst=settings.requests_per_second, seconds=1.0, clock=clock)
        self._pairs = Buckets(burst=settings.sign_ins_per_minute, seconds=minute, clock=clock)
        self._accounts = Buckets(
            burst=3 * settings.sign_ins_per_minute, seconds=minute, clock=clock
        )
        self._addresses = Buckets(
            burst=settings.sign_ins_per_minute_per_address, seconds=minute, clock=clock
        )
        self._refusals = Buckets(
            burst=settings.bad_credentials_per_minute, seconds=minute, clock=clock
        )

    def request(self, caller: Caller) -> None:
        """Raises Exhausted when the credential makes too many requests."""
        if wait := self._requests.take(caller.principal.credential_id):
            raise Exhausted("Too many requests with this credential.", retry_after_seconds=wait)

    def sign_in(self, address: str, account: str) -> None:
        """Raises Exhausted when an address, or everyone against one account, tries too often.

        `account` is an email address or whatever else is being guessed.
        """
        account = account.casefold()
        wait = max(
            self._addresses.take(address),
            self._accounts.take(account),
            self._pairs.take(f"{address} {account}"),
        )
        if wait:
            raise Exhausted("Too many tries to sign in.", retry_after_seconds=wait)

    def refresh(self, address: str) -> None:
        """Raises Exhausted when an address asks for new tokens too often."""
        if wait := self._addresses.take(address):
            raise Exhausted("Too many refreshes from this address.", retry_after_seconds=wait)

    def refused(self, address: str) -> None:
        """Counts a refused credential; raises Exhausted when an address has too many."""
        if wait := self._refusals.take(address):
            raise Exhausted("Too many refused credentials.", retry_after_seconds=wait)
