"""Joint experts: the counterpart of independent ones that shows what independence is worth.

The same networks, but trained as one: on the same batches, through the loss of their averaged
logits. Nothing then asks a single network to be right by itself, or to differ from the others.
"""

import jax

from ltjax import phases
from ltjax.experts import best_over, over_experts
from ltjax.methods.classifier import method_for
from ltjax.models import Network


def joined(network: Network, num_networks: int, over: str) -> Network:
    """Several networks as one, whose logits and features are the averages of theirs.

    Args:
      network: from ltjax.models; every leaf of params and stats gets a leading axis K.
      num_networks: K.
      over: how the networks are compiled; see ltjax.experts.over_experts.
    """

    def init(key, image):
        keys = jax.random.split(key, num_networks)
        return jax.vmap(lambda key: network.init(key, image))(keys)

    def apply(variables, image, train, frozen=(), between=None):
        def one(own):
            return network.apply(own, image, train, frozen, between)

        outputs, stats = over_experts(one, over)(variables._replace(memory=()))
        return jax.tree.map(lambda x: x.mean(0), outputs), stats

    return Network(init, apply)


def recipe(settings, info) -> tuple[phases.Phase, ...]:
    """One model of config.num_experts networks: a single expert whose heads these are.

    The ablation of independent experts. Lee et al., "Why M Heads are Better than One", 2015, call
    it training under an ensemble-aware loss.
    """
    one, over = phases.network(settings, info), best_over(settings.compute)
    method = method_for(settings, info, joined(one, settings.num_experts, over))

    def heads(variables, batch):
        def logits(own):
            return one.apply(own, batch["image"], train=False)[0][0]

        return over_experts(logits, over)(variables)

    return (phases.phase(settings, info, method._replace(heads=heads), num_experts=1),)
