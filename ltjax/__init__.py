"""ltjax: long-tailed visual recognition in JAX.

The idea in five lines: a Method is what one expert learns (`ltjax.learner`), a Learner adds its
optimiser, `independent` maps a Learner over experts (`ltjax.experts`), `sharded` spreads it over
devices (`ltjax.mesh`), and a recipe is a tuple of Phases (`ltjax.phases`) that `ltjax.train` runs.
"""

__version__ = "0.1.0"
