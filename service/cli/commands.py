"""The commands, in the order of `--help`. Only the module of the one that is asked for is imported."""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

COMMANDS = {
    "demo": ("service.cli.demo:demo", "Enroll and recognize people of some photographs."),
    "enroll": ("service.cli.enroll:enroll", "Add people's faces to a gallery from pictures."),
    "recognize": ("service.cli.recognize:recognize", "Say who is in a picture (1:N)."),
    "verify": ("service.cli.verify:verify", "Say whether a picture shows one person of the gallery (1:1)."),
    "compare": ("service.cli.verify:compare", "Say whether two pictures show the same person."),
    "detect": ("service.cli.pictures:detect", "Find the faces in a picture."),
    "encode": ("service.cli.pictures:encode", "Print the embedding of every face in a picture."),
    "import": ("service.cli.datasets:import_file", "Load a dataset file into a gallery."),
    "export": ("service.cli.datasets:export", "Write a gallery's references as a dataset file."),
    "evaluate": ("service.cli.evaluate:evaluate", "Measure an encoder on a folder of per-person folders."),
    "galleries": ("service.cli.galleries:application", "Create, list, change and erase galleries."),
    "people": ("service.cli.people:application", "Create, list, show, rename and erase people and their faces."),
    "tenants": ("service.cli.tenants:application", "Create, list and erase tenants; set their quotas."),
    "keys": ("service.cli.keys:application", "Create, list, rotate and revoke a tenant's API keys."),
    "operator": ("service.cli.operator:application", "The platform operator's own keys."),
    "models": ("service.cli.models:application", "List, install, verify and convert model files."),
    "legacy": (
        "service.cli.legacy:application",
        "The legacy recognizer's programs, flag for flag.",
    ),
    "migrate": ("service.cli.serve:migrate", "Bring the database to the newest schema."),
    "serve": ("service.cli.serve:serve", "Answer HTTP requests."),
    "work": ("service.cli.serve:work", "Run background jobs in a process of their own."),
}
"""Name -> (where its function or group is, its first line of help)."""


def build_application(arguments: Sequence[str]) -> typer.Typer:
    """The command line for these arguments: the command they name is real, the others stand in for the help."""
    application = typer.Typer(
        help="Enroll people from photographs into galleries and recognize faces in PostgreSQL.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # its markup reads external:LABEL:DIMENSION as an emoji
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback()(_options)
    wanted = _command_among(arguments)
    for name, (place, summary) in COMMANDS.items():
        if name == wanted:
            add_command(application, name, place)
        else:
            application.command(name, help=summary)(_stand_in)
    return application


def add_command(application: typer.Typer, name: str, place: str) -> None:
    """Import a command's module and hang its function or group of commands into the application."""
    module, member = place.split(":")
    command = getattr(import_module(module), member)
    if isinstance(command, typer.Typer):
        application.add_typer(command, name=name, no_args_is_help=True)
    else:
        application.command(name)(command)


def _stand_in() -> None:
    """Never called: what stands in the list of commands beside the one that is asked for."""


def _command_among(arguments: Sequence[str]) -> str | None:
    """Return the first argument that is neither an option nor the value of --env-file."""
    previous = ""
    for argument in arguments:
        if not argument.startswith("-") and previous != "--env-file":
            return argument
        previous = argument
    return None


def _name_env_file(path: str | None) -> None:
    """Keep the file's name in the environment, so that the processes that the command starts read it too."""
    from service.settings import ENV_FILE  # takes 0.3 s to import, and most commands have no such option

    if path is not None:
        os.environ[ENV_FILE] = path


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(version("face-identity-service"))
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Say the version.", callback=_say_version, is_eager=True)]

EnvFile = Annotated[
    str | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        help="Settings file (default: .env, if it belongs to this service; empty: none).",
        callback=_name_env_file,
    ),
]


def _options(_version: Version = False, _env_file: EnvFile = None) -> None:
    """What stands before the command."""
