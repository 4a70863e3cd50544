"""The life of a run: its loop, folder, checkpoints and console."""
