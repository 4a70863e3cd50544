"""Joint experts: the counterpart of independent experts, to measure the effect of independence.

The same networks, but trained as one: on the same batches, through the loss of their averaged
logits. Nothing requires a single network to be right by itself, or to differ from the others.
"""

from ltjax import build, phases
from ltjax.experts import best_over
from ltjax.methods.classifier import method_for
from ltjax.methods.parts.several_heads import mean_of_heads, several
from ltjax.models import SeveralHeads


def averaged(network: SeveralHeads) -> SeveralHeads:
    """A network of several heads whose head gives their mean logits, f32[B, C]."""

    def head(variables, features):
        return network.head(variables, features).mean(0)

    return network._replace(head=head)


def recipe(settings, info) -> tuple[phases.Phase, ...]:
    """One model of config.num_experts networks: a single expert with these as heads.

    The ablation of independent experts. Lee et al., "Why M Heads are Better than One", 2015, call
    it training under an ensemble-aware loss.
    """
    one = build.network(settings, info)
    networks = several(one, settings.num_experts, best_over(settings.compute))
    method = method_for(settings, info, averaged(networks))
    method = method._replace(predict=mean_of_heads(networks))
    return (build.phase(settings, info, method, num_experts=1),)
