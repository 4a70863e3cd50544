"""Handwritten digits, long-tailed (imbalance factor 20), three independent small experts.

    python -m ltjax.main --config configs/digits.py
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.data = dict(name="digits", imbalance="exp", imbalance_factor=20.0)
    config.method = dict(name="classifier", loss="cross_entropy")
    config.network = dict(name="resnet8", head="linear")
    config.sampler = dict(name="instance_balanced")
    config.num_experts = 3
    config.batch_size = 64
    config.num_epochs = 60
    config.schedule = dict(name="cosine", lr=0.1, warmup_epochs=5)
    config.optimizer = dict(momentum=0.9, nesterov=True, weight_decay=5e-4)
    config.log_every_steps = 70
    config.save_every_epochs = 20.0
    return config
