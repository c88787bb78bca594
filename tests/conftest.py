"""What every test runs under: no network, no analytics, one thread, and `tiny_models` importable."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["ALCHEMIST_VOTES"] = tempfile.mkdtemp(prefix="votes-")  # never those of whoever runs the tests
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read by torch, numpy and children
    os.environ[variable] = "1"

# A background job of a script is born with interrupts ignored, and so would be the children that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def v_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny v-prediction pipeline folder with zero terminal SNR. Read only: tests that change it make their own."""
    from tiny_models import tiny_pipeline

    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "v")


@pytest.fixture(scope="session")
def epsilon_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny epsilon pipeline folder. Read only."""
    from tiny_models import tiny_pipeline

    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "epsilon", prediction_type="epsilon")


@pytest.fixture(scope="session")
def xl_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny StableDiffusionXLPipeline folder. Read only."""
    from tiny_models import tiny_xl_pipeline

    return tiny_xl_pipeline(tmp_path_factory.mktemp("tiny") / "xl")


@pytest.fixture(scope="session")
def sd3_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny StableDiffusion3Pipeline folder. Read only."""
    from tiny_models import tiny_sd3_pipeline

    return tiny_sd3_pipeline(tmp_path_factory.mktemp("tiny") / "sd3")
