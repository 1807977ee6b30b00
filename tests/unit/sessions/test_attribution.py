"""Who owns an instant when several sources speak at once."""

from services.sessions.domain import NOTHING, Facets, Rank, sample
from services.sessions.domain.evidence import rank_of
from tests.unit.sessions.scenes import (
    SLACK,
    T0,
    VSCODE,
    active_seconds,
    afk,
    beat,
    owners,
    page,
    seen,
    sessions,
    timeline,
)

BROWSER = Facets(app="Firefox", title="issue 2 - Mozilla Firefox")
TAB = page("https://github.com/o/r/issues/2", app="", title="issue 2")


def window(start, seconds, facets, **more):
    return seen(start, seconds, facets, idle=None, source="window", **more)


def tab(start, seconds, facets=TAB, **more):
    return seen(start, seconds, facets, idle=None, source="web", **more)


def test_a_browser_window_and_its_tab_are_one_slice_with_both_attributes():
    [block] = timeline([window(0, 60, BROWSER), tab(0, 60)])
    [piece] = block.slices
    assert piece.facets == Facets(app="Firefox", title="issue 2", url=TAB.url, domain="github.com")
    assert piece.category == "development"


def test_a_tab_behind_another_app_does_not_count():
    assert owners(timeline([window(0, 60, SLACK), tab(10, 50)])) == [("Slack", 0, 60)]


def test_a_tab_counts_while_its_browser_is_in_front():
    evidence = [window(0, 30, BROWSER), window(30, 30, SLACK), tab(0, 60)]
    blocks = timeline(evidence)
    assert owners(blocks) == [("Firefox", 0, 30), ("Slack", 30, 60)]
    assert blocks[0].slices[0].facets.domain == "github.com"


def test_a_tab_counts_when_the_foreground_is_unknown():
    evidence = [window(0, 60, Facets(title="issue 2")), tab(0, 60)]
    assert owners(timeline(evidence)) == [("github.com", 0, 60)]
    assert owners(timeline([afk(0, 60, idle=False), tab(0, 60)])) == [("github.com", 0, 60)]


def test_a_tab_of_another_browser_does_not_count():
    other = page("https://youtube.com/", app="Chrome")
    blocks = timeline([window(0, 60, BROWSER), tab(10, 50, other)])
    assert owners(blocks) == [("Firefox", 0, 60)]
    assert blocks[0].slices[0].facets == BROWSER


def test_an_agent_that_reports_app_and_address_lends_its_app_to_the_extension():
    agent = seen(0, 60, page("https://github.com/", app="Firefox"))
    blocks = timeline([agent, tab(20, 20)])
    assert [(s.facets.app, s.facets.url) for s in blocks[0].slices] == [
        ("Firefox", "https://github.com/"),
        ("Firefox", TAB.url),
        ("Firefox", "https://github.com/"),
    ]


def test_one_source_that_moves_on_is_believed_whatever_it_knew_before():
    evidence = [seen(0, 60, page("https://github.com/")), seen(20, 20, SLACK)]
    assert owners(timeline(evidence)) == [
        ("Firefox", 0, 20),
        ("Slack", 20, 40),
        ("Firefox", 40, 60),
    ]


def test_presence_alone_never_takes_time_from_a_window():
    evidence = [window(0, 600, VSCODE), *(afk(10 * i, 10 * i + 9, idle=False) for i in range(60))]
    assert owners(timeline(evidence)) == [("Visual Studio Code", 0, 600)]


def test_presence_of_another_device_never_takes_time_from_a_window():
    evidence = [seen(0, 600, VSCODE), afk(100, 300, idle=False, device="tablet")]
    assert owners(timeline(evidence)) == [("Visual Studio Code", 0, 600)]


def test_an_idle_device_does_not_take_time_from_the_one_in_use():
    evidence = [
        window(0, 900, VSCODE),
        window(300, 60, Facets(app="Slack", title="(1) Slack")),
        afk(0, 100, idle=False),
        afk(100, 900, idle=True),
        seen(100, 800, SLACK, device="phone", source="phone"),
    ]
    assert owners(timeline(evidence)) == [("Visual Studio Code", 0, 100), ("Slack", 100, 900)]
    assert active_seconds(timeline(evidence)) == 900


def test_a_manual_entry_prevails_over_every_device():
    entry = Facets(title="Workshop", hint="meeting")
    evidence = [
        seen(0, 600, entry, device="web", source="manual"),
        seen(100, 500, VSCODE),
        beat(200, Facets(app="Vim", file="/a.py")),
        beat(300, Facets(app="Vim", file="/a.py")),
        seen(400, 100, SLACK, device="phone"),
    ]
    [session] = sessions(evidence)
    assert (session.category, session.contexts) == ("meeting", ("Workshop",))
    assert len(timeline(evidence)[0].slices) == 1


def test_the_inner_of_two_events_that_begin_together_is_the_shorter():
    evidence = [seen(0, 100, VSCODE), seen(0, 30, SLACK)]
    assert owners(timeline(evidence)) == [("Slack", 0, 30), ("Visual Studio Code", 30, 100)]


BREAK = [afk(0, 1_000, idle=False), afk(1_000, 4_000, idle=True), afk(4_000, 5_000, idle=False)]


def test_what_began_long_before_a_break_is_as_old_as_anything_else_after_it():
    """Else evidence from hours ago could change who owns the afternoon."""
    phone = seen(500, 4_200, SLACK, device="phone", source="phone", idle=None)
    later = seen(600, 4_400, VSCODE, idle=None)
    block = timeline([*BREAK, phone, later])[-1]
    assert owners([block]) == [("Slack", 4_000, 4_700), ("Visual Studio Code", 4_700, 5_000)]
    assert timeline([*BREAK, phone, later, seen(0, 600, VSCODE, idle=None)])[-1] == block


def test_what_ends_long_after_a_block_does_not_matter_to_it():
    gone = afk(5_000, 9_000, idle=True)
    laptop = seen(0, 9_000, VSCODE, idle=None)
    phone = seen(0, 8_000, SLACK, device="phone", source="phone", idle=None)
    block = timeline([*BREAK, gone, laptop, phone])[2]
    assert owners([block]) == [("Visual Studio Code", 4_000, 5_000)]


def test_a_run_that_began_shortly_before_a_block_keeps_its_age():
    phone = seen(3_800, 1_200, SLACK, device="phone", source="phone", idle=None)
    laptop = seen(3_750, 600, VSCODE, idle=None)
    block = timeline([*BREAK, phone, laptop])[-1]
    assert owners([block]) == [("Slack", 4_000, 5_000)]


def test_ranks_follow_what_is_known():
    def rank(source="agent", is_point=False, **facets):
        return rank_of(source, Facets(**facets), is_point=is_point)

    assert rank("manual", app="Code") is Rank.MANUAL
    assert rank(is_point=True) is Rank.EDITOR
    assert rank(file="/a.py", url="https://x.example") is Rank.EDITOR
    assert rank(project="p", app="Code") is Rank.EDITOR
    assert rank(project="p", url="https://x.example") is Rank.WEB
    assert rank(app="Code") is Rank.WINDOW
    assert rank(title="Inbox") is Rank.WINDOW
    assert rank(hint="meeting") is Rank.OTHER
    assert sample("d", "s", T0, 1).facets is NOTHING
