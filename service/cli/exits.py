"""Exit codes of every command, and which of them an error of the catalogue is."""

from enum import IntEnum

from service.errors import (
    DatabaseUnavailable,
    EncoderUnavailable,
    InvalidModel,
    InvalidSettings,
    ServiceError,
)


class ExitCode(IntEnum):
    """What a script learns from `$?`. A command that is killed or interrupted leaves with 128 + the signal."""

    DONE = 0
    """Everything asked for was done; for `verify`: yes."""
    NO = 1
    """The answer is no: `verify` and `compare` not the same person; `demo` recognized someone wrongly."""
    USAGE = 2
    """The command line itself is wrong."""
    PARTLY = 3
    """Some of it was done; what was not is named: pictures that `enroll` rejected."""
    UNUSABLE_INPUT = 4
    """A picture, embedding, name or file cannot be used; nothing was changed."""
    NOT_FOUND = 5
    """No such tenant, gallery, person, face, key or file."""
    CONFLICT = 6
    """The name is taken, or the embedding spaces differ."""
    UNAVAILABLE = 7
    """The database, an encoder, a model or a setting is not usable."""
    FAILED = 8
    """Anything else; LOGGER_LEVEL=DEBUG shows where."""


_BY_STATUS = {404: ExitCode.NOT_FOUND, 409: ExitCode.CONFLICT}
_UNAVAILABLE = (DatabaseUnavailable, EncoderUnavailable, InvalidModel, InvalidSettings)


def exit_code(error: ServiceError) -> ExitCode:
    """The exit code of an error: by what it is, else by its status."""
    if isinstance(error, _UNAVAILABLE):
        return ExitCode.UNAVAILABLE
    if error.status in _BY_STATUS:
        return _BY_STATUS[error.status]
    return ExitCode.UNUSABLE_INPUT if 400 <= error.status < 500 else ExitCode.FAILED
