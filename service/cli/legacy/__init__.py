"""`face-identity legacy`: the legacy recognizer's three programs, flag for flag.

Its flags (`-dd`, `-ip`) are not of the kind that typer reads, so they are handed on to argparse as they are.
"""

import sys
from collections.abc import Callable
from importlib import import_module

import typer

from service.cli.failures import exit_on_failure

application = typer.Typer(help="The legacy recognizer's programs, flag for flag.")

_AS_THEY_ARE = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
PROGRAMS = {
    "processor": ("service.cli.legacy.processor", "Find the faces of a picture or camera, or say whose they are."),
    "encoder": ("service.cli.legacy.encoder", "Make a dataset of pictures of people."),
    "capture": ("service.cli.legacy.capture", "Take pictures of people with a camera, a folder a person."),
}


def run(name: str, arguments: list[str] | None = None) -> None:
    """Run one of the programs with the command line's arguments; for the scripts in `videoAnalytics/`."""
    given = sys.argv[1:] if arguments is None else arguments
    with exit_on_failure(given):
        import_module(PROGRAMS[name][0]).main(given)


def _command(module: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        import_module(module).main(context.args)

    return command


for _name, (_module, _summary) in PROGRAMS.items():
    application.command(_name, help=_summary, context_settings=_AS_THEY_ARE, add_help_option=False)(_command(_module))
