"""What methods have in common whose network has several heads."""

import functools
from collections.abc import Callable

from ltjax.choices import choose, within
from ltjax.experts import best_over, over_experts
from ltjax.learner import Method
from ltjax.methods.classifier import classifier, predict_with
from ltjax.mixing import Mixing
from ltjax.models import Network
from ltjax.models.branches import BRANCHED

# As ltjax.objective.Objective, of the logits of all heads: (logits f32[K, B, C], label i32[B], key,
# progress) -> (values f32[B], weights f32[B]).
HeadsObjective = Callable


def branched(settings, info, num_heads: int, reduced: bool) -> Network:
    """The config's network with one trunk and K heads; see ltjax.models.branches.

    Raises:
      UserError: if it cannot branch.
    """
    within("config.network.name", settings.network["name"], one_of=tuple(BRANCHED))
    make, compute = choose(BRANCHED, "network", **settings.network), settings.compute
    each = functools.partial(over_experts, over=best_over(compute))
    return make(info.num_classes, compute.convolution, num_heads, reduced, each)


def many_headed(
    network: Network, objective: HeadsObjective, mixing: Mixing | None = None
) -> Method:
    """Train all heads of a network through one objective; predict the mean of their logits."""
    heads = predict_with(network)
    trained = classifier(network, objective, mixing)
    return trained._replace(predict=lambda *args: heads(*args).mean(0), heads=heads)
