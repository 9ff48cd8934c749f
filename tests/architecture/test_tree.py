"""The tree is what docs/architecture.md says, and tracked files name no machine and no package registry."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# Put together here, so that this file does not find itself.
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:" + "|".join(["work", "root", r"home/\w+", r"Users/\w+"]) + r")/")
REGISTRIES = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + "js", "index" + "-url", "find" + "-links"])
)


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], check=False, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("left out: this is not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]


def tracked_lines() -> list[tuple[str, str]]:
    """Return every line of every tracked text file, with its file and number."""
    lines = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            text = content.decode(errors="replace").splitlines()
            lines += [(f"{path.relative_to(REPOSITORY)}:{number}", line) for number, line in enumerate(text, 1)]
    return lines


def described_folders() -> list[str]:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    return re.findall(r"^- `([\w/.-]+)/`: ", text, flags=re.MULTILINE)


def test_every_folder_has_one_line_in_the_architecture() -> None:
    """Folders of `service/` at any depth, and every folder at the top."""
    folders = {path.relative_to(REPOSITORY).parent for path in tracked_files()}
    rooms = {str(folder) for path in folders for folder in (path, *path.parents) if folder.parts[:1] == ("service",)}
    tops = {folder.parts[0] for folder in folders if folder.parts and not folder.parts[0].startswith(".")}
    assert sorted(described_folders()) == sorted(rooms | tops)


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    assert [place for place, line in tracked_lines() if MACHINE_PATHS.search(line)] == []


def test_no_tracked_file_names_a_package_registry() -> None:
    assert [place for place, line in tracked_lines() if REGISTRIES.search(line)] == []


@pytest.mark.parametrize(
    "name", ["constraints.txt", "constraints-dev.txt", "constraints-insightface.txt", "constraints-generators.txt"]
)
def test_constraints_are_exact_versions_with_hashes(name: str) -> None:
    text = re.sub(r"^#.*\n", "", (REPOSITORY / name).read_text(), flags=re.MULTILINE)
    requirement = (
        r"[A-Za-z0-9._-]+(?:\[[a-z,-]+\])?==[\w.!+]+(?: ; [^\n\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    )
    assert re.fullmatch(f"(?:{requirement})+", text)


def test_the_two_opencv_builds_are_never_installed_together() -> None:
    locks = "".join((REPOSITORY / name).read_text() for name in ("constraints.txt", "constraints-dev.txt"))
    assert "opencv-python-headless==" in locks
    # One package of the lock requires the other build on a platform that does not exist.
    assert re.findall(r"^opencv-python==(?!.*sys_platform == 'never')", locks, flags=re.MULTILINE) == []


def test_the_locks_agree_and_the_image_installs_no_development_package() -> None:
    """The service's lock is a part of the development lock, so the tests use the packages of the image."""
    service, development = (
        set(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([\w.!+]+)", (REPOSITORY / name).read_text()))
        for name in ("constraints.txt", "constraints-dev.txt")
    )
    assert service <= development
    assert {"pytest", "mypy", "ruff", "insightface"} & {name for name, _ in service} == set()
