"""CIFAR-100-LT, imbalance factor 100, three independent ResNet-32 experts.

    python -m ltjax.main --config configs/cifar100.py
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.data = dict(name="cifar100", imbalance="exp", imbalance_factor=100.0, seed=0)
    config.method = dict(name="classifier", loss="cross_entropy")
    config.network = dict(name="resnet32", head="linear")
    config.sampler = dict(name="instance_balanced")
    config.num_experts = 3
    config.batch_size = 128
    config.num_epochs = 200
    # Cao et al. 2019: warm up for 5 epochs, then divide by 100 at 80 % and again at 90 %.
    config.schedule = dict(
        name="step", lr=0.1, warmup_epochs=5, drop_at=(0.8, 0.9), drop_by=0.01
    )
    config.optimizer = dict(momentum=0.9, nesterov=True, weight_decay=2e-4)
    return config
