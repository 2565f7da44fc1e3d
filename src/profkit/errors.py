"""Every error profkit raises on purpose.

    ProfkitError
    ├── UsageError           an argument or a call that cannot be meant
    │   ├── UnknownPlugin    no hook, reader or exporter of that name
    │   └── RunStateError    a second run, a step outside its thread, ...
    ├── MissingDependency    asked for by name, but its library is not installed
    ├── EngineUnavailable    processes or a cluster that cannot work
    ├── UnreadableTrace      a file or folder that is no trace
    ├── ExportError          an exporter cannot express this run
    └── UploadError          a run could not be sent to its log folder

The message says what was asked, what exists, and what to do. The command line prints it and exits with 2.
"""


class ProfkitError(Exception):
    """Base of all errors raised by profkit on purpose."""


class UsageError(ProfkitError, ValueError):
    """An argument or a call that cannot be meant."""


class UnknownPlugin(UsageError, LookupError):
    """No plugin of that name is installed."""


class RunStateError(UsageError, RuntimeError):
    """The call does not fit the state of the run."""


class MissingDependency(ProfkitError, ImportError):
    """Asked for by name, but the library it needs is not installed."""


class EngineUnavailable(ProfkitError):
    """Processes or a cluster that were to analyse ranks cannot be reached, or cannot work."""


class UnreadableTrace(ProfkitError):
    """The file or folder holds no trace profkit can read."""


class ExportError(ProfkitError):
    """The exporter cannot express this run."""


class UploadError(ProfkitError):
    """A run could not be sent to its log folder; it is whole where it was recorded."""
