"""Joint experts: the counterpart of independent ones that shows what independence is worth.

The same networks, but trained as one: on the same batches, through the loss of their averaged
logits. Nothing then asks a single network to be right by itself, or to differ from the others.
"""

import jax

from ltjax import build, phases
from ltjax.experts import best_over
from ltjax.methods.classifier import method_for
from ltjax.methods.parts.several_heads import mean_of_heads, several
from ltjax.models import Network


def averaged(network: Network) -> Network:
    """A network of several heads as one whose logits and features are the averages of theirs."""

    def apply(*args, **kwargs):
        outputs, stats = network.apply(*args, **kwargs)
        return jax.tree.map(lambda x: x.mean(0), outputs), stats

    return Network(network.init, apply)


def recipe(settings, info) -> tuple[phases.Phase, ...]:
    """One model of config.num_experts networks: a single expert whose heads these are.

    The ablation of independent experts. Lee et al., "Why M Heads are Better than One", 2015, call
    it training under an ensemble-aware loss.
    """
    one = build.network(settings, info)
    networks = several(one, settings.num_experts, best_over(settings.compute))
    method = method_for(settings, info, averaged(networks))
    method = method._replace(predict=mean_of_heads(networks))
    return (build.phase(settings, info, method, num_experts=1),)
