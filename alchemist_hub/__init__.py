"""Fine-tune, evaluate, publish and compare five Stable Diffusion models on a curated set."""

__version__ = "0.1.0"
