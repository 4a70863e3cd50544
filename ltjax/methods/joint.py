"""Joint experts: the counterpart of independent ones that shows what independence is worth.

The same networks, but trained as one: on the same batches, through the loss of their averaged
logits. Nothing then asks a single network to be right by itself, or to differ from the others.
"""

import jax

from ltjax import phases
from ltjax.choices import pick
from ltjax.experts import best_over, over_experts
from ltjax.losses import LOSSES
from ltjax.methods.classifier import classifier
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

    def apply(variables, image, train, frozen=()):
        def one(own):
            return network.apply(own, image, train=train, frozen=frozen)

        outputs, stats = over_experts(one, over)(variables._replace(memory=()))
        return jax.tree.map(lambda x: x.mean(0), outputs), stats

    return Network(init, apply)


def recipe(settings, info, *, loss: str = "cross_entropy") -> tuple[phases.Phase, ...]:
    """One model of config.num_experts networks; to evaluation it is a single expert."""
    one = phases.network(settings, info)
    network = joined(one, settings.num_experts, best_over(settings.compute))
    method = classifier(network, pick(LOSSES, loss, "config.method.loss"))
    return (phases.phase(settings, info, method, num_experts=1),)
