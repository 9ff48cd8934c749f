"""Transactions end in three places: the route, the worker and the command line. Nothing else commits or rolls back."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SERVICE = REPOSITORY / "service"
ALLOWED = (
    "http/sessions.py",  # the route: commits before the answer is sent
    "worker.py",  # one job, one transaction
    "cli/",  # one command, one transaction
    "database/session.py",  # release_connection, which refuses uncommitted writes
    "database/libpq.py",  # an exchange is a transaction of its own
    "database/schema/migrate.py",  # the administrator's own connection
)


def ends_of_transactions(source: str) -> list[int]:
    """Line numbers of the calls `.commit(...)` and `.rollback(...)`, except the rollback of a savepoint."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"commit", "rollback"}
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "savepoint")
    ]


def test_only_routes_worker_and_commands_end_a_transaction() -> None:
    others = [
        f"{path.relative_to(SERVICE)}:{line}"
        for path in sorted(SERVICE.rglob("*.py"))
        if not str(path.relative_to(SERVICE)).startswith(ALLOWED)
        for line in ends_of_transactions(path.read_text())
    ]
    assert others == []


def test_a_commit_or_a_rollback_is_found() -> None:
    assert ends_of_transactions("async def f(s):\n    await s.commit()\n    await s.rollback()") == [2, 3]
    assert ends_of_transactions("async def f(savepoint):\n    await savepoint.rollback()") == []


def uses_libpq(source: str) -> bool:
    """Whether a file reads `.pgconn` or imports the parts of psycopg that its documentation calls internal."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    internal = ("psycopg.generators", "psycopg.waiting", "psycopg.adapt.Transformer")
    return "pgconn" in attributes or any(name.startswith(internal) for name in imported)


def test_only_one_file_uses_psycopg_below_its_documented_interface() -> None:
    users = {str(path.relative_to(SERVICE)) for path in SERVICE.rglob("*.py") if uses_libpq(path.read_text())}
    assert users == {"database/libpq.py"}
