"""How fast a training step is: `python -m ltjax.bench`."""
