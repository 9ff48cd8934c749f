"""`face-identity legacy`: the three programs of the legacy recognizer with all their flags.

Typer cannot parse two-letter flags such as `-dd` and `-ip`, so the arguments are passed to argparse unchanged.
"""

import sys
from collections.abc import Callable
from importlib import import_module

import typer

from service.cli.exits import exit_on_failure

application = typer.Typer(help="The legacy recognizer's programs, flag for flag.")

_UNPARSED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
PROGRAMS = {
    "processor": ("service.cli.legacy.processor", "Find or recognize the faces of an image or camera."),
    "encoder": ("service.cli.legacy.encoder", "Create a dataset from images of people."),
    "capture": ("service.cli.legacy.capture", "Take images of people with a camera, one folder per person."),
}


def run(name: str, arguments: list[str] | None = None) -> None:
    """Run one of the programs; the scripts in `videoAnalytics/` call this. None: the arguments of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with exit_on_failure(arguments):
        import_module(PROGRAMS[name][0]).main(arguments)


def _command(module: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        import_module(module).main(context.args)

    return command


for _name, (_module, _summary) in PROGRAMS.items():
    application.command(_name, help=_summary, context_settings=_UNPARSED, add_help_option=False)(_command(_module))
