"""Turn any pool of image-text pairs into a small, high-impact fine-tuning set."""
