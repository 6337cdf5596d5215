"""Every error a user can cause or meet; the command line prints them without a traceback and exits with 2."""

from __future__ import annotations


class EtError(Exception):
    """A problem that a message can explain: what failed, the value, why, and what to type."""


class ConfigError(EtError):
    """A setting is unknown, missing or of the wrong type."""


class RefError(EtError):
    """A model reference cannot be read or resolved."""


class UnknownNameError(EtError):
    """No installed plugin registers the name."""


class AmbiguousNameError(EtError):
    """Several installed plugins register the name."""


class PluginError(EtError):
    """A plugin is broken, incompatible, or breaks the rules of registration."""


class ComponentError(EtError):
    """A registered target cannot be imported, or is not what its kind asks for."""


class DataError(EtError):
    """A data file, or a row of it, cannot be used."""


class ArtifactError(EtError):
    """Weights, a tokenizer or a config are missing, unsafe, or do not fit the model."""


class RunFolderError(EtError):
    """A run folder is missing, occupied, or unreadable."""


class CheckpointError(EtError):
    """A checkpoint is truncated, altered, or written for another run."""


class Interrupted(EtError):  # noqa: N818 - it is no error
    """Training stopped on a signal after saving a checkpoint; *signal_number* says which."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
