"""The commands in the order of `--help`. Only the module of the requested command is imported, to start fast.

The modules of commands import in their functions what they work with: SQLAlchemy, NumPy and FastAPI take 1.5 s
together, and neither help nor a wrong command line needs them. Types of signatures are imported if TYPE_CHECKING.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

COMMANDS = {
    "demo": ("service.cli.demo:demo", "Enroll and recognize people of some photographs."),
    "enroll": ("service.cli.enroll:enroll", "Add people's faces to a gallery from images."),
    "recognize": ("service.cli.recognize:recognize", "Identify the people in images (1:N)."),
    "watch": ("service.cli.watch:watch", "Identify the people in a video, a stream or in front of a camera."),
    "verify": ("service.cli.verify:verify", "Decide whether an image shows one person of the gallery (1:1)."),
    "compare": ("service.cli.verify:compare", "Decide whether two images show the same person."),
    "detect": ("service.cli.pictures:detect", "Find the faces in an image or a video."),
    "encode": ("service.cli.pictures:encode", "Print the embedding of every face in an image."),
    "import": ("service.cli.datasets:import_file", "Load a dataset file into a gallery."),
    "export": ("service.cli.datasets:export", "Write a gallery's references as a dataset file."),
    "evaluate": ("service.cli.evaluate:evaluate", "Measure an encoder on a folder of per-person folders."),
    "galleries": ("service.cli.galleries:application", "Create, list, change and erase galleries."),
    "people": ("service.cli.people:application", "Create, list, show, rename, merge and erase people and their faces."),
    "tenants": ("service.cli.tenants:application", "Create, list and erase tenants; set their quotas."),
    "keys": ("service.cli.keys:application", "Create, list, rotate and revoke a tenant's API keys."),
    "operator": ("service.cli.operator:application", "The platform operator's own keys."),
    "models": ("service.cli.models:application", "List, install, verify and convert model files."),
    "legacy": (
        "service.cli.legacy:application",
        "The legacy recognizer's programs, flag for flag.",
    ),
    "migrate": ("service.cli.serve:migrate", "Migrate the database to the newest schema."),
    "purge": ("service.cli.purge:purge", "Remove the bytes of erased people from the files of the database."),
    "serve": ("service.cli.serve:serve", "Answer HTTP requests."),
    "work": ("service.cli.serve:work", "Run background jobs in a process of their own."),
}
"""Name -> (module and member of the function or group, first line of its help)."""


_COMPLETING = "_FACE_IDENTITY_COMPLETE"
"""Variable that the completion script of a shell sets. Typer makes its name from that of the program."""


def build_application(arguments: Sequence[str]) -> typer.Typer:
    """Build the command line. Only the command that the arguments name is imported; `--help` lists the others."""
    application = typer.Typer(
        help="Enroll people from photographs into galleries and recognize faces in PostgreSQL.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich would read external:LABEL:DIMENSION as an emoji
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback()(_options)
    requested = _requested_command(arguments)
    for name, (path, summary) in COMMANDS.items():
        if name == requested:
            add_command(application, name, path)
        else:
            application.command(name, help=summary)(_stand_in)
    return application


def add_command(application: typer.Typer, name: str, path: str) -> None:
    """Import the module of a command and add its function or group to the application."""
    module, member = path.split(":")
    command = getattr(import_module(module), member)
    if isinstance(command, typer.Typer):
        application.add_typer(command, name=name, no_args_is_help=True)
    else:
        application.command(name)(command)


def _stand_in() -> None:
    """A placeholder in the list of commands; never called."""


def _requested_command(arguments: Sequence[str]) -> str | None:
    """Return the first argument that is neither an option nor the value of --env-file.

    If a shell asks for completions, the words are in the environment: in COMP_WORDS for bash, else in the variable of
    typer.
    """
    if _COMPLETING in os.environ:
        arguments = os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]
    previous = ""
    for argument in arguments:
        if not argument.startswith("-") and previous != "--env-file":
            return argument
        previous = argument
    return None


def _name_env_file(path: str | None) -> None:
    """Keep the file's name in the environment, so that the processes that the command starts read it too."""
    if path is None:
        return
    from service.settings_sources import ENV_FILE  # takes 0.3 s to import, which help and usage errors need not pay

    os.environ[ENV_FILE] = path


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version  # loads the parser of e-mail headers

        typer.echo(version("face-identity-service"))
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)]

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
    """Options before the command."""
