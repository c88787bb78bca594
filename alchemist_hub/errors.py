"""The errors that users of `alchemist_hub` can meet.

HubError                 a user's mistake or a refused input: one line, exit status 2
|-- ModelError           a checkpoint, model key or component that cannot be loaded
|-- TrainingError        a run that cannot start or go on: settings, data, a foreign checkpoint
|-- EvaluationError      reports that cannot be made from what was given
|-- PublishError         a repository that may not be published, or a Hub that does not take it
|-- VoteError            a vote that cannot be counted, or a place where votes cannot be kept
`-- WorldError           a miniature that cannot be rendered or written
"""


class HubError(Exception):
    """Root of everything that is the input's fault. The message says what arrived, what was expected, what to do."""


class ModelError(HubError):
    """A checkpoint, model key or component that cannot be loaded."""


class TrainingError(HubError):
    """A training run that cannot start or go on."""


class EvaluationError(HubError):
    """A report that cannot be made from what was given."""


class PublishError(HubError):
    """A repository that may not be published as it is, or a Hub that does not take it."""


class VoteError(HubError):
    """A vote that cannot be counted, or a place where votes cannot be kept."""


class WorldError(HubError):
    """A miniature world that cannot be rendered or written."""
