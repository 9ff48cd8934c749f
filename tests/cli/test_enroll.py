"""`enroll` on real folders: layouts, odd files, warnings, interruption; and `people check`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from service.database.addresses import conninfo
from service.database.connection import Database
from service.database.identifiers import from_text
from service.encoder.fake_pictures import draw_people
from tests.cli.conftest import Command, Done
from tests.cli.test_command_line import PROGRAM
from tests.support.waiting import GUARD_SECONDS, wait_until


def write(path: str, *people: str, variation: int = 0) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(draw_people(people, variation=variation))


def test_a_folder_one_level_too_high_enrolls_nobody_and_leaves_no_gallery(command: Command) -> None:
    write("all/team/ada/1.jpg", "ada")
    write("all/team/bob/1.jpg", "bob")
    done = command("enroll", "all")
    assert (done.code, "enroll all/team" in done.err) == (4, True)
    assert command("galleries", "list", "--json").json["items"] == []


def test_the_same_file_name_from_two_folders_is_refused(command: Command) -> None:
    write("a/1.jpg", "ada")
    write("b/1.jpg", "bob")
    done = command("enroll", "a/1.jpg", "b/1.jpg")
    assert (done.code, "a/1.jpg and b/1.jpg" in done.err) == (4, True)


def test_images_of_several_people_under_one_name_are_warned_of(command: Command) -> None:
    for name in ("ada", "bob", "eve"):
        write(f"portraits/{name}.jpg", name)
    done = command("enroll", "portraits", "--json")
    assert (done.code, done.json["faces"]) == (0, 3)
    assert [(each["image"], each["reason"]) for each in done.json["warnings"]] == [
        ("bob.jpg", "unlike-other-references"),
        ("eve.jpg", "unlike-other-references"),
    ]
    assert command("people", "check", "--json").json["inconsistent"][0]["person"]["name"] == "portraits"
    assert "warning zoe.jpg: the face is unlike" in _enrolled_later(command).err


def _enrolled_later(command: Command) -> Done:
    write("zoe.jpg", "zoe")
    return command("enroll", "zoe.jpg", "--name", "portraits")


def test_images_of_one_person_are_not_warned_of(command: Command) -> None:
    for number in range(4):
        write(f"people/ada/{number}.jpg", "ada", variation=number)
    done = command("enroll", "people", "--json")
    assert (done.json["faces"], done.json["warnings"]) == (4, [])
    assert "No person" in command("people", "check").out


def test_two_names_of_one_person_are_look_alikes(command: Command) -> None:
    write("Ada.jpg", "ada")
    write("Adele.jpg", "ada", variation=1)
    command("enroll", "Ada.jpg", "Adele.jpg")
    (pair,) = command("people", "check", "--json").json["look_alikes"]
    assert {pair["person"]["name"], pair["other"]["name"]} == {"Ada", "Adele"}
    assert "Adele" in command("people", "check").out


@pytest.mark.parametrize("odd", ["broken link", "pipe", "not UTF-8"])
def test_one_odd_file_is_named_and_the_others_are_enrolled(command: Command, odd: str) -> None:
    for name in ("A", "B", "C"):
        write(f"s/{name}/1.jpg", name)
    if odd == "broken link":
        Path("s/B/0.jpg").symlink_to("/nowhere")
    elif odd == "pipe":
        os.mkfifo("s/B/0.jpg")
    else:
        Path("s/B").rename(os.fsdecode(b"s/Ren\xe9"))
    done = command("enroll", "s", "--json")
    named = {"not UTF-8": "Ren\\xe9/1.jpg"}.get(odd, "B/0.jpg")
    assert (done.code, [each["image"] for each in done.json["rejected"]]) == (3, [named])
    assert [each["name"] for each in command("people", "list", "--json").json["items"]] == (
        ["A", "C"] if odd == "not UTF-8" else ["A", "B", "C"]
    )


def test_helper_folders_are_skipped_and_told(command: Command) -> None:
    write("s/ada/1.jpg", "ada")
    write("s/@eaDir/thumb.jpg", "eve")
    done = command("enroll", "s")
    assert (done.code, "skipped the folder @eaDir" in done.err) == (0, True)
    assert len(command("people", "list", "--json").json["items"]) == 1


def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(
    command: Command, tenant: str, database: Database
) -> None:
    """This test locks person B, so the run waits there until the signal comes."""
    write("s/A/1.jpg", "A")
    write("s/B/1.jpg", "B")
    command("galleries", "create", "default")
    number = from_text(command("people", "create", "B", "--json").json["id"])
    with psycopg.connect(conninfo(database.logins.administrator)) as connection:
        connection.execute("SELECT FROM person WHERE id = %s FOR UPDATE", [number])
        command_line = [sys.executable, "-c", _INTERRUPTIBLE, PROGRAM, "enroll", "s", "--tenant", tenant]
        with subprocess.Popen(command_line, stderr=subprocess.PIPE) as process:
            wait_until(lambda: connection.execute(_IS_BLOCKING).fetchone() or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 130
    assert said.decode().splitlines() == [
        "Stopped before the end. Gallery 'default' keeps 1 new faces of 1 people.",
        "To go on, run the same command again: it skips images that are enrolled already.",
    ]
    assert command("enroll", "s", "--json").json["people"][0]["known"] == 1


_INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program that Ctrl-C ends, also if these tests run in the background, where a shell ignores the signal."""
_IS_BLOCKING = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"


def test_a_failed_run_leaves_no_empty_gallery_and_no_empty_person(command: Command) -> None:
    Path("text.jpg").write_text("no image")
    assert command("enroll", "text.jpg").code == 4
    assert command("galleries", "list", "--json").json["items"] == []
    Path("bad.json").write_text('[["Ada", "1,x"]]')
    assert command("import", "bad.json", "--embedding-space", "external:x:2").code == 4
    assert command("galleries", "list", "--json").json["items"] == []


def test_the_text_and_the_json_agree_on_known_images(command: Command) -> None:
    write("ada.jpg", "ada")
    command("enroll", "ada.jpg")
    (person,) = command("enroll", "ada.jpg", "--json").json["people"]
    assert (person["faces"], person["known"]) == (0, 1)
    table = command("enroll", "ada.jpg").out.splitlines()
    assert table[-1].split() == ["ada", "0", "1", "0"]


def test_folders_whose_names_look_equal_are_one_person(command: Command) -> None:
    write("mac/Jose\u0301/1.jpg", "jose")
    write("linux/Jos\u00e9/2.jpg", "jose", variation=1)
    write("linux/Jos\u00e9 /3.jpg", "jose", variation=2)
    assert [command("enroll", folder).code for folder in ("mac", "linux")] == [0, 0]
    (person,) = command("people", "list", "--json").json["items"]
    assert (person["name"], person["faces"]) == ("Jos\u00e9", 3)
    for name in ("Jose\u0301", "Jos\u00e9 "):
        assert command("verify", name, "mac/Jose\u0301/1.jpg").code == 0
        assert len(command("people", "list", "--name", name, "--json").json["items"]) == 1
    Path("same").mkdir()
    write("same/Jos\u00e9.jpg", "jose")
    refused = command("enroll", "same/Jos\u00e9.jpg", "mac/Jose\u0301.jpg")
    assert refused.code != 0


def test_a_folder_whose_name_cannot_be_stored_is_named_and_the_others_are_enrolled(command: Command) -> None:
    write("s/a\tb/1.jpg", "ada")
    write("s/Eve/1.jpg", "eve")
    done = command("enroll", "s", "--json")
    assert (done.code, done.json["faces"], done.json["rejected"][0]["reason"]) == (3, 1, "no-person")
    assert "control characters" in done.json["rejected"][0]["detail"]
