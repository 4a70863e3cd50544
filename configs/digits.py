"""Handwritten digits with a long tail, three independent small experts: the whole job in a minute.

    python -m ltjax.main --config configs/digits.py

417 training images, 124 zeros down to 6 nines (imbalance factor 20); 500 test images, 50 a digit.
Nothing is downloaded. More experts, a longer tail:

    ... --config.num_experts=5 --config.data.imbalance_factor=50
    ... --config.method.name=balanced_softmax

Expected: the average right on 97.6 %, the mean expert on 94.2 % (this seed, JAX 0.10.2, AVX2).
Time: 26 s on 2 cores of a Zen 3 CPU, 17 s of it training.
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.data = dict(name="digits", imbalance="exp", imbalance_factor=20.0, seed=0)
    config.method = dict(name="classifier")  # or another that --list shows
    config.network = dict(name="resnet8")
    # What is left empty, the method chooses.
    config.sampler = dict()
    config.loss = dict()
    config.reweight = dict()
    config.mixing = dict()
    config.augment = dict(name="pad_crop_flip")
    config.num_experts = 3
    config.batch_size = 64  # images per expert and step
    config.num_epochs = 60.0
    config.schedule = dict(name="cosine", lr=0.1, warmup_epochs=5)
    config.optimizer = dict(momentum=0.9, nesterov=True, weight_decay=5e-4)
    config.share = dict()  # what experts have in common; nothing
    config.mesh = dict(expert=0)  # devices along the expert axis; 0: chosen by their number
    config.compute = dict(convolution="winograd", experts_over="auto")
    config.combine = "probs"  # the average of softmax outputs; "logits" averages these instead
    config.log_every_steps = 70
    config.save_every_epochs = 20.0
    return config
