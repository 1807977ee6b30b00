"""What the Markdown says exists: links, commands, paths, settings, routes, names, and SQL."""

import ast
import re
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib import import_module
from os.path import normpath
from pathlib import Path

import asyncpg
import pytest

from chassis.telemetry import ATTRIBUTES, METRICS
from deploy.embedded.services import SERVICES
from tests.architecture.sources import ROOT, files, python_files, text, tree
from tools import adr_index, telemetry_page

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
TOP = {path.parts[0] for path in files() if len(path.parts) > 1}
PATH = re.compile(
    rf"(?<![\w/.~<>*-])(?:{'|'.join(re.escape(top) for top in sorted(TOP))})/[\w./-]*(?![\w<>*…])"
)
SETTING = re.compile(r"(?:<(?:SERVICE|NAME)>|\b[A-Z]+)_[A-Z][A-Z0-9_]*\b")
ROUTE = re.compile(r"(?<![\w.>])/(?:v1|api/0)(?:/[\w<>.{}-]+)*")
# Passwords of roles.sql and nats.conf, and what other programs read.
OTHER_VARIABLES = re.compile(
    r"[A-Z]+_POSTGRES_PASSWORD|NATS_[A-Z]+_PASSWORD|OTEL_[A-Z_]+|[A-Z]+_URL"
)
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
# What exists only where something runs.
MADE_WHEN_RUN = {"deploy/secrets/passwords.env"}
# One sentence a line, so that diffs read; tables and code are not prose.
ONE_SENTENCE = [Path("CONTRIBUTING.md"), Path("CHANGELOG.md"), Path("protos/README.md")]
SENTENCE_END = re.compile(r"[\w)`*\"][.!?] +[A-Z`*\[]")
MARKER = re.compile(r"\s*(?:#+|-|\d+\.) (?:\d+\. )?")

PAGES = [path for path in files() if path.suffix == ".md"]
names = pytest.mark.parametrize("page", PAGES, ids=str)


def code(page: Path) -> str:
    """Everything that stands as code, inline or in blocks, one piece a line."""
    blocks = [match["code"] for match in FENCE.finditer(text(page))]
    return "\n".join([*blocks, *INLINE.findall(prose(page))])


def prose(page: Path) -> str:
    """Everything but code blocks."""
    return FENCE.sub("", text(page))


def is_there(path: Path) -> bool:
    return path == Path() or any(one == path or path in one.parents for one in files())


@names
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(INLINE.sub("", prose(page))):
        address, _, fragment = match["target"].partition("#")
        if re.match(r"[a-z]+:", address):
            continue
        target = Path(normpath(page.parent / address)) if address else page
        if not is_there(target) or (fragment and fragment not in anchors(target)):
            broken.append(match["target"])
    assert not broken


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = (match["title"].lower().replace("`", "") for match in HEADING.finditer(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@names
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", text(Path("Makefile")), re.MULTILINE))
    wanted = set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code(page)))
    assert not wanted - targets, "not in the Makefile"
    modules = set(re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)(?![\w.<])", code(page)))
    ours = {name for name in modules if name.partition(".")[0] in TOP}
    assert not [name for name in ours if not is_module(name)]


def is_module(name: str) -> bool:
    """Whether `python -m` runs it."""
    path = Path(*name.split("."))
    return is_there(path.with_suffix(".py")) or is_there(path / "__main__.py")


@names
def test_paths_exist(page: Path) -> None:
    paths = {match.rstrip("./") for match in PATH.findall(code(page))} - MADE_WHEN_RUN
    assert not [path for path in paths if not is_there(Path(path))]


@cache
def settings() -> frozenset[str]:
    """Every variable that a service reads, also with its prefix left open."""
    found = set()
    for service in SERVICES:
        fields = import_module(f"services.{service.name}.settings").Settings.model_fields
        for prefix in (service.name.upper(), "<SERVICE>", "<NAME>"):
            found |= {f"{prefix}_{name.upper()}" for name in fields}
    return frozenset(found)


@names
def test_settings_exist(page: Path) -> None:
    prefixes = {service.name.upper() for service in SERVICES} | {"<SERVICE>", "<NAME>"}
    runner = "\n".join(text(path) for path in python_files("deploy"))
    unknown = []
    for name in SETTING.findall(code(page)):
        prefix = name.partition("_")[0]
        if OTHER_VARIABLES.fullmatch(name):
            continue
        is_known = name in settings() if prefix in prefixes else name in runner
        if prefix in {*prefixes, "TIMELOOM"} and not is_known:
            unknown.append(name)
    assert not unknown


@cache
def literals() -> frozenset[str]:
    """Every string in the code that runs."""
    return frozenset(
        node.value
        for path in python_files("chassis", "services")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@names
def test_routes_exist(page: Path) -> None:
    served = [re.sub(r"\{[^}]+\}", "*", literal) for literal in literals() if literal[:1] == "/"]
    known = {tuple(route.strip("/").split("/")) for route in served}
    known |= {("api", "0", *route) for route in known}
    unknown = {route for route in ROUTE.findall(code(page)) if not matches(route, known)}
    assert not unknown - {"/v1", "/api/0"}


def matches(route: str, known: set[tuple[str, ...]]) -> bool:
    """Whether a route is served; what stands for a parameter may be anything."""
    parts = route.strip("/").split("/")
    return any(
        len(parts) == len(one) and all(b in {"*", a} for a, b in zip(parts, one, strict=True))
        for one in known
    )


@cache
def underscored() -> frozenset[str]:
    """Every name that begins with timeloom_: of Prometheus, and databases."""
    shown = telemetry_page.families(telemetry_page.instruments())
    series = {name for family in shown.values() for name in (family.name, *family.series)}
    labels = {telemetry_page.label(entry.name) for entry in ATTRIBUTES}
    return frozenset(series | labels | {service.database or "" for service in SERVICES})


@names
def test_names_of_telemetry_exist(page: Path) -> None:
    assert not set(re.findall(r"\btimeloom_[a-z_]+\b", code(page))) - underscored()
    dotted = {entry.name for entry in (*METRICS, *ATTRIBUTES)}
    mine = set(re.findall(r"\btimeloom\.[a-z_]+(?:\.[a-z_]+)*\b(?!\.?v?\d)", code(page)))
    assert not {name for name in mine if not any(one.startswith(name) for one in dotted)} - {
        f"timeloom.{path.parts[1]}" for path in files() if path.suffix == ".proto"
    }


def test_manifests_and_rules_use_names_that_exist() -> None:
    unknown = {
        f"{path}: {name}"
        for path in files()
        if path.suffix in {".yaml", ".yml", ".json"} and path.parts[0] in {"deploy", "k8s"}
        for name in re.findall(r"\btimeloom_[a-z_]+\b", text(path))
        if name not in underscored()
    }
    assert not unknown


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "runbooks" in page.parts or page.stem.startswith("debug-")],
    ids=str,
)
def test_log_events_are_logged(page: Path) -> None:
    found = {word for word in INLINE.findall(prose(page)) if EVENT.fullmatch(word)}
    assert not {word for word in found if word not in literals() and not is_there(Path(word))}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parts[0] == "docs" or p in ONE_SENTENCE], ids=str
)
def test_a_line_holds_one_sentence(page: Path) -> None:
    crowded = [
        line
        for line in prose(page).splitlines()
        if not line.startswith("|") and SENTENCE_END.search(MARKER.sub("", line, count=1))
    ]
    assert not crowded


def test_the_index_of_decisions_is_up_to_date() -> None:
    made = adr_index.render(adr_index.read_all())
    assert text(Path("docs/adr/README.md")) == made, "run: make docs"


def test_the_telemetry_page_is_up_to_date() -> None:
    assert text(Path("docs/telemetry.md")) == telemetry_page.render(), "run: make docs"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("## Consequences", "## Results"), "sections"),
        (("**", ""), "bold"),
        (("# 0001", "# 0002"), "begin"),
        (("# 0001 One", "# 0001 Another"), "title"),
    ],
)
def test_a_decision_that_leaves_the_form_is_refused(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    name = "0001-one-environment.md"
    page = tmp_path / name
    page.write_text(text(Path("docs/adr", name)).replace(*change))
    with pytest.raises(adr_index.Malformed, match=complaint):
        adr_index.read(page)


def test_a_missing_number_is_noticed(tmp_path: Path) -> None:
    name = "0002-outbox-and-inbox.md"
    (tmp_path / name).write_text(text(Path("docs/adr", name)))
    with pytest.raises(adr_index.Malformed, match="0001"):
        adr_index.read_all(tmp_path)


def statements() -> Iterator[tuple[str, str, Path]]:
    """Every SQL block that names the service in whose database it is meant to run."""
    for page in PAGES:
        for match in FENCE.finditer(text(page)):
            language, _, service = match["info"].partition(" ")
            if language == "sql" and service:
                yield service, match["code"], page


@pytest.mark.integration
@pytest.mark.parametrize("service", sorted({service for service, _, _ in statements()}))
async def test_postgres_accepts_the_sql(
    service: str, database: Callable[[str], Awaitable[str]]
) -> None:
    connection = await asyncpg.connect(await database(service), ssl=False)
    refused = {}
    for owner, sql, page in statements():
        if owner == service:
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as error:
                refused[f"{page}: {sql[:40]}"] = str(error)
    await connection.close()
    assert not refused


def test_no_page_is_forgotten() -> None:
    linked = {
        Path(normpath(page.parent / match["target"].partition("#")[0]))
        for page in PAGES
        for match in LINK.finditer(text(page))
        if not re.match(r"[a-z]+:", match["target"])
    }
    lonely = [p for p in PAGES if p not in linked and p != Path("README.md")]
    # A link to a folder shows its README.
    assert not [p for p in lonely if not (p.name == "README.md" and p.parent in linked)]
    assert (ROOT / "docs").is_dir()
