"""The errors that users of `curation` can meet.

CurationError            a user's mistake or a refused input: one line, exit status 2
|-- SourceError          the pool cannot be read: wrong path, empty folder, unknown kind
|-- RecipeError          a recipe that does not fit together, or is not the one of this run
|-- LedgerError          a run folder that cannot be read or written
|-- EndpointError        a caption endpoint that cannot be asked at all (a run's end; it can go on later)
|-- EngineError          workers that cannot go on: they die while loading, or on too many samples
|-- ImageError           bytes that are not one whole, supported image (a row's status, never a run's end)
|-- FetchError           a URL that cannot or may not be downloaded (a row's status, never a run's end)
|-- CalibrationError     labels or activations that no estimator can be calibrated on
`-- MissingExtra         an optional package is not installed; says the pip line
"""


class CurationError(Exception):
    """Root of everything that is the input's fault. The message says what arrived, what was expected, what to do."""


class SourceError(CurationError):
    """The pool cannot be read."""


class RecipeError(CurationError):
    """The recipe does not fit together, or is not the one that this run was started with."""


class LedgerError(CurationError):
    """The run folder cannot be read or written."""


class EndpointError(CurationError):
    """A caption endpoint refuses the key, does not know the model, or has stopped answering."""


class EngineError(CurationError):
    """Workers die while they load a model, or on too many samples."""


class ImageError(CurationError):
    """The bytes are not one whole, supported image."""


class FetchError(CurationError):
    """A URL cannot or may not be downloaded. `transient`: it may succeed later, after `retry_after` seconds if said."""

    def __init__(self, message: str, *, transient: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.transient, self.retry_after = transient, retry_after


class CalibrationError(CurationError):
    """The labels or activations do not allow a calibration."""


class MissingExtra(CurationError):
    """An optional package is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'alchemist-hub[{extra}]'")
        self.arguments = (package, extra)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickle by the two names, so that it survives the way out of a worker process."""
        return type(self), self.arguments
