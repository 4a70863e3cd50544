"""Augmentation of images, in JAX, compiled into the training step."""
