"""Style rules that matter are tests: where things may stand, how long they may be, what may not be said."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tracehub.protocol.tenants import read_tenant
from tracehub.runtime.settings import Settings
from tracehub.storage.redis import keys as server_keys
from tracehub_sdk.keys import Keys

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


@cache
def tracked() -> tuple[str, ...]:
    """Every file of the tree, as git knows it; without git (an unpacked archive) what lies here."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        names = [str(p) for p in paths if not any(part.startswith((".", "__")) for part in p.parts[:-1])]
    return tuple(name for name in names if name and (ROOT / name).is_file())


def python_files(*folders: str) -> list[str]:
    return [n for n in tracked() if n.endswith(".py") and n.startswith(tuple(f"{f}/" for f in folders))]


@cache
def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name), name)


SHIPPED = ("tracehub", "apps", "sdks/python/tracehub_sdk")
EVERYWHERE = (*SHIPPED, "tests", "benchmarks", "sdks/python/tests")


def strings(module: ast.Module) -> list[tuple[int, str]]:
    """String constants that are not docstrings, and the fixed parts of f-strings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def attributes(module: ast.Module) -> list[tuple[int, str]]:
    """`a.b` as text, with its line."""
    return [
        (node.lineno, f"{node.value.id}.{node.attr}")
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]


def test_the_tree_is_seen() -> None:
    """Else no test below could fail."""
    assert len(python_files(*SHIPPED)) > 50
    assert "schema.sql" in tracked()


SQL = re.compile(
    r"^\s*(select\s.+\s(from|as)\s|select\s+\w+\(|insert\s+into\s|update\s+\w+\s+(\w+\s+)?set\s|delete\s+from\s"
    r"|create\s+(table|index|database|unique)|alter\s+table|drop\s+table|lock\s+table|with\s+\w+\s+as\s*\()",
    re.IGNORECASE | re.DOTALL,
)
SQL_ALLOWED = {
    # The runner of migrations keeps the one table that must be there before any file of SQL has run.
    "tracehub/storage/postgres/migrate.py",
    # The launcher waits for its server and makes its one database before there is a schema.
    "tracehub/runtime/embedded/postgres.py",
}


def test_sql_stands_in_sql_files() -> None:
    found = [
        f"{name}:{line}"
        for name in python_files(*SHIPPED)
        if name not in SQL_ALLOWED
        for line, value in strings(tree(name))
        if SQL.match(value)
    ]
    assert found == []


def test_every_query_is_used_and_explained() -> None:
    sql = text("tracehub/storage/postgres/queries.sql")
    queries = re.findall(r"^-- name: (\w+)\n(-- .+)?", sql, re.MULTILINE)
    used = "".join(text(name) for name in python_files("tracehub", "apps"))
    assert [name for name, sentence in queries if not sentence] == []
    assert [name for name, _ in queries if f"SQL.{name}" not in used] == []
    assert len({name for name, _ in queries}) == len(queries)


REDIS_KEY = re.compile(
    r"^(inflight|arq:|queue:|producer:|fault:|receipts:|wake:|idle:|told:|tries:|worker-alive|worker-control|flushed$)"
)
KEY_MODULES = {"tracehub/storage/redis/keys.py", "sdks/python/tracehub_sdk/keys.py"}


def test_redis_keys_are_made_in_one_place() -> None:
    found = [
        f"{name}:{line} {value!r}"
        for name in python_files(*SHIPPED)
        if name not in KEY_MODULES
        for line, value in strings(tree(name))
        if REDIS_KEY.match(value)
    ]
    assert found == []


@pytest.mark.parametrize("service", ["svc", "a/b:c.d-e_f", "x" * 100])
@pytest.mark.parametrize(
    "tenant", ["", "6f1c1f2e-0000-4000-8000-000000000001", "team-a", server_keys.ZERO_TENANT]
)
def test_the_sdk_and_the_server_spell_keys_alike(service: str, tenant: str) -> None:
    """The SDK stands alone, so the names are there twice."""
    mine = Keys.of(service, tenant)
    theirs = read_tenant(tenant) if tenant else server_keys.ZERO_TENANT
    assert mine.buffer == server_keys.producer_buffer(theirs, service)
    assert mine.meta == server_keys.producer_meta(theirs, service)
    hashed = re.findall(r"{(.+?)}", mine.buffer)
    for key in (mine.meta, mine.sender, mine.rejected, mine.lost, mine.last_append("i")):
        assert re.findall(r"{(.+?)}", key) == hashed  # one slot of a cluster


CLOCKS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
}  # fmt: skip
# Benchmarks and tests measure; the SDK stands alone and cannot import ours: its clocks are arguments with these
# defaults. The guard is run by a bare interpreter and may import nothing.
CLOCKS_ALLOWED = {"tracehub/runtime/clock.py"}


def test_clocks_are_read_in_one_place() -> None:
    found = [
        f"{name}:{line} {value}"
        for name in python_files("tracehub", "apps")
        if name not in CLOCKS_ALLOWED
        for line, value in attributes(tree(name))
        if value in CLOCKS
    ]
    assert found == []


# Older than the rule; one machine, one file: splitting it would hide what belongs together.
LONG_FILES = {"sdks/python/tests/test_window.py": 550}


def test_files_are_short() -> None:
    lengths = {name: len(text(name).splitlines()) for name in python_files(*EVERYWHERE)}
    assert {n: size for n, size in lengths.items() if size > LONG_FILES.get(n, FILE_LINES_MAX)} == {}


LONG_FUNCTIONS = {
    ("apps/backend/app.py", "build"): 100,
    ("apps/worker/__main__.py", "run"): 100,
}  # composition roots


def test_functions_are_short() -> None:
    found = [
        f"{name}:{node.lineno} {node.name}"
        for name in python_files(*SHIPPED)
        for node in ast.walk(tree(name))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1
        > LONG_FUNCTIONS.get((name, node.name), FUNCTION_LINES_MAX)
    ]
    assert found == []


def test_modules_are_named_after_things() -> None:
    named = {name: set(Path(name).with_suffix("").parts) for name in python_files(*EVERYWHERE)}
    assert [name for name, parts in named.items() if parts & FORBIDDEN_NAMES] == []


def test_no_exception_is_caught_by_nobodys_name() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name in python_files(*EVERYWHERE)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert found == []


def test_base_exceptions_always_go_on() -> None:
    """CancelledError goes on: who catches BaseException raises it again."""
    found = [
        f"{name}:{node.lineno}"
        for name in python_files(*SHIPPED)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "BaseException"
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert found == []


SLEEPS = {"time.sleep", "asyncio.sleep"}
SLEEPS_ALLOWED = {
    "tests/eventually.py",  # the one place where tests wait
    "sdks/python/tests/sdk_valkey.py",  # the same of the SDK, which stands alone
    "tests/unit/test_ship_shipper.py",  # its own eventually, for a thread
    "tests/e2e/raw_client.py",  # a client that paces itself and backs off, as clients do
    "tests/e2e/sdk_clients.py",  # the same
    "tests/simulation/scheduler.py",  # hands the turn on in its own time
}


def test_tests_do_not_sleep() -> None:
    found = [
        f"{name}:{line}"
        for name in python_files("tests", "sdks/python/tests")
        if name not in SLEEPS_ALLOWED
        for line, value in attributes(tree(name))
        if value in SLEEPS
    ]
    assert found == []


def test_nothing_is_pickled() -> None:
    found = [
        f"{name}: {node.names[0].name}"
        for name in python_files(*SHIPPED)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Import) and node.names[0].name in ("pickle", "marshal", "shelve")
    ]
    assert found == []


TEXTS = (
    ".py",
    ".md",
    ".toml",
    ".sql",
    ".yml",
    ".yaml",
    ".lock",
    ".json",
    ".txt",
    ".cfg",
    ".html",
    ".ts",
    ".tsx",
)
# In pieces, so that this file names none itself.
_NAMES = "|".join(("py" + "pi", "python" + "hosted", "npm" + "js", "registry", "artifactory", "nexus"))
REGISTRIES = re.compile(
    rf"(?:https?:)?//[^\s\"')]*(?:{_NAMES}|proxy\.golang)[^\s\"')]*|index-url|resolved\":\s*\"http",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.{}/-])/(?:work/|root/|Users/|home/(?!tracehub\b)\w+|mnt/|tmp/\w)[\w./-]*"
)
SAYS_SO_ITSELF = "tests/tidy/test_tidy.py"


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINE_PATHS], ids=["registry", "machine path"])
def test_no_registry_and_no_machine_is_named(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name}: {match.group(0)}"
        for name in tracked()
        if name != SAYS_SO_ITSELF and (name.endswith(TEXTS) or "." not in Path(name).name)
        for match in [pattern.search(text(name))]
        if match
    ]
    assert found == []


def test_patterns_find_what_they_should() -> None:
    """A pattern that matches nothing would prove nothing."""
    assert REGISTRIES.search("https://pypi.example/simple")
    assert MACHINE_PATHS.search("see /root/x")
    assert not MACHINE_PATHS.search("sdks/work/x and GET /workers")
    assert SQL.match("select a from b")
    assert not SQL.match("select a service")
    assert REDIS_KEY.match("arq:job:1")


def test_every_setting_is_documented() -> None:
    """In `tracehub config`, which shows descriptions, and for operators."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    operations = ROOT / "docs" / "operations.md"
    if not operations.is_file():
        pytest.skip("docs/operations.md is not there yet")
    told = operations.read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"TRACEHUB_{name.upper()}" not in told]
    assert missing == [] or "tracehub config" in told


def test_every_metric_is_documented() -> None:
    from apps.backend.metrics import TABLE

    operations = ROOT / "docs" / "operations.md"
    if not operations.is_file():
        pytest.skip("docs/operations.md is not there yet")
    told = operations.read_text(encoding="utf-8")
    assert [name for name, *_ in TABLE if name not in told] == []


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/protocol.md", "docs/operations.md")


def anchors(document: str) -> set[str]:
    """The anchors of a page's headings, as a renderer makes them."""
    heads = re.findall(r"^#+ +(.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_links_between_documents_lead_somewhere() -> None:
    pages = [name for name in tracked() if name.endswith(".md")]
    broken = []
    for page in pages:
        for target in LINK.findall(re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            if not file.exists() or (
                anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8"))
            ):
                broken.append(f"{page} -> {target}")
    to_come = "docs/performance.md"
    rest = [link for link in broken if not link.endswith(Path(to_come).name)]
    assert rest == []
    if broken:
        pytest.skip(f"{to_come} is not there yet")


@pytest.mark.parametrize("page", DOCUMENTS)
def test_documents_name_files_that_exist(page: str) -> None:
    if page not in tracked():
        pytest.skip(f"{page} is not there yet")
    named = re.findall(r"`((?:apps|tracehub|tests|docs|sdks|benchmarks|scripts)/[\w./-]+\.\w+)`", text(page))
    assert [name for name in named if not (ROOT / name).exists()] == []
