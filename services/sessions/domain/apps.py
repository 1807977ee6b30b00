"""Application names: the same program under its several spellings, and which are browsers."""

from functools import lru_cache

_SUFFIXES = (".exe", ".app", ".desktop")

_BROWSER_NAMES = """
    arc|brave|brave browser|brave-browser|chrome|chromium|chromium-browser|comet|dia|duckduckgo
    |edge|epiphany|falkon|firefox|firefox developer edition|firefox nightly|firefox-esr|floorp
    |gnome web|google chrome|google chrome beta|google chrome canary|google chrome dev
    |google-chrome|google-chrome-stable|helium|iexplore|konqueror|librewolf|microsoft edge
    |microsoft-edge|midori|min|mozilla firefox|msedge|mullvad browser|navigator|opera|opera gx
    |orion|palemoon|qutebrowser|safari|safari technology preview|samsung internet|seamonkey
    |sidekick|sigmaos|thorium|tor browser|ungoogled chromium|vivaldi|vivaldi-stable|waterfox|yandex
    |zen|zen browser|app.zen-browser.zen|company.thebrowser.browser|com.android.chrome
    |com.apple.safari|com.apple.mobilesafari|com.brave.browser|com.duckduckgo.macos.browser
    |com.google.chrome|com.kagi.kagimacos|com.microsoft.edgemac|com.operasoftware.opera
    |com.sec.android.app.sbrowser|com.vivaldi.vivaldi|org.chromium.chromium|org.mozilla.firefox
    |org.mozilla.librewolf|org.torproject.torbrowser
    """
_BROWSERS = frozenset(name.strip() for name in _BROWSER_NAMES.split("|"))


@lru_cache(maxsize=4096)
def app_key(app: str) -> str:
    """One spelling per program: `Code.exe`, `code` and `Code` are the same."""
    key = app.strip().casefold()
    for suffix in _SUFFIXES:
        key = key.removesuffix(suffix)
    return key


@lru_cache(maxsize=4096)
def is_browser(app: str) -> bool:
    """Whether the program shows web pages; by whole name, so `Search` is not `Arc`."""
    return app_key(app) in _BROWSERS
