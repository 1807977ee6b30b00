"""The category rules a new organization starts with; its own rules follow and prevail.

Rows are apps and sites whose use is clear on most days. Browsers have none: their pages speak.
"""

from services.sessions.domain.categories import CategoryRule, Field

_APPS = {
    "development": """
        Visual Studio Code|Code|Code - Insiders|VSCodium|Cursor|Windsurf|Zed|Xcode|IntelliJ IDEA
        |PyCharm|WebStorm|GoLand|CLion|Rider|RubyMine|PhpStorm|RustRover|DataGrip|Android Studio
        |Visual Studio|devenv|Eclipse|Sublime Text|Neovim|Vim|Emacs|Terminal|iTerm2|Ghostty
        |Alacritty|kitty|WezTerm|Warp|Hyper|Konsole|gnome-terminal|Windows Terminal|PowerShell
        |Bruno|Postman|Insomnia|DBeaver|pgAdmin 4|TablePlus|Docker Desktop|GitHub Desktop|GitKraken
        |Sourcetree|Fork""",
    "design": """
        Figma|Sketch|Adobe XD|Adobe Photoshop|Photoshop|Adobe Illustrator|Illustrator|Affinity
        |Affinity Designer|GIMP|Inkscape|Blender|Penpot""",
    "communication": """
        Slack|Discord|Messages|Mail|Telegram|Telegram Desktop|WhatsApp|Signal|Microsoft Outlook
        |Outlook|Thunderbird|Spark|Mattermost|Element|Zulip""",
    "meeting": "Zoom|zoom.us|Zoom Workplace|Webex|FaceTime|Google Meet|Around|Whereby",
    "research": "Zotero|Obsidian|Preview|Okular|Adobe Acrobat|Kindle|Dash|Zeal",
    "distraction": "Steam|Spotify|Netflix|TV|VLC|Epic Games Launcher|TikTok",
}

_BUNDLES = {
    "development": """
        com.microsoft.VSCode|com.apple.dt.Xcode|com.apple.Terminal|com.googlecode.iterm2
        |com.mitchellh.ghostty|com.todesktop.230313mzl4w4u92|com.jetbrains.intellij""",
    "design": "com.figma.Desktop|com.bohemiancoding.sketch3",
    "communication": """
        com.tinyspeck.slackmacgap|com.hnc.Discord|com.apple.MobileSMS|com.apple.mail
        |ru.keepcoder.Telegram|com.microsoft.Outlook""",
    "meeting": "us.zoom.xos|com.apple.FaceTime",
}

_DOMAINS = {
    "development": """
        github.com|*.github.com|gitlab.com|bitbucket.org|codeberg.org|localhost|127.0.0.1
        |remix.ethereum.org|platform.claude.com|platform.openai.com|claude.ai|chatgpt.com
        |gemini.google.com|grok.com|v0.app|lovable.dev|replit.com|codesandbox.io|stackblitz.com
        |vercel.com|netlify.com|console.aws.amazon.com|*.console.aws.amazon.com
        |console.cloud.google.com|portal.azure.com|hub.docker.com|npmjs.com|crates.io
        |sentry.io|*.sentry.io|grafana.com""",
    "design": """
        figma.com|*.figma.site|canva.com|vectorizer.ai|imgupscaler.ai|imgupscaler.com|dribbble.com
        |behance.net|fonts.google.com|coolors.co""",
    "communication": """
        mail.google.com|gmail.com|outlook.office.com|outlook.live.com|app.slack.com|discord.com
        |web.whatsapp.com|web.telegram.org|messages.google.com|proton.me|mail.proton.me""",
    "meeting": """
        meet.google.com|zoom.us|*.zoom.us|teams.microsoft.com|teams.live.com|meet.jit.si|whereby.com
        |calendly.com""",
    "research": """
        google.com|duckduckgo.com|bing.com|kagi.com|perplexity.ai|*.wikipedia.org|stackoverflow.com
        |*.stackexchange.com|superuser.com|serverfault.com|developer.mozilla.org|*.readthedocs.io
        |docs.rs|docs.python.org|docs.clawd.bot|arxiv.org|scholar.google.com|news.ycombinator.com
        |learn.microsoft.com|medium.com""",
    "distraction": """
        youtube.com|instagram.com|x.com|twitter.com|reddit.com|*.reddit.com|facebook.com|tiktok.com
        |netflix.com|twitch.tv|9gag.com|pinterest.com|geeky-gadgets.com|primevideo.com
        |disneyplus.com|bsky.app|threads.net""",
    "other": "accounts.google.com|login.microsoftonline.com|appleid.apple.com|auth0.com",
}


def _rows(field: Field, table: dict[str, str]) -> list[CategoryRule]:
    return [
        CategoryRule(category, field, pattern.strip())
        for category, patterns in table.items()
        for pattern in patterns.split("|")
    ]


STARTER_RULES: tuple[CategoryRule, ...] = (
    *_rows(Field.APP, _APPS),
    *_rows(Field.BUNDLE, _BUNDLES),
    *_rows(Field.DOMAIN, _DOMAINS),
)
