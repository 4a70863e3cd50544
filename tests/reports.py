"""Reports made by hand: what a finished run leaves, without the run."""

import json

from ltjax.compare.rows import Run
from ltjax.compare.variants import entered
from ltjax.config.settings import as_dict
from ltjax.recipes import own_choices, settings_of
from ltjax.run.files import FORMAT

CIFAR = {
    "data": {"name": "cifar10", "imbalance_factor": 100.0},
    "network": {"name": "resnet8"},
    "num_experts": 1,
    "num_epochs": 10.0,
}


def report(variant="classifier", seed=0, accuracy=0.5, config=CIFAR, **changes):
    """Of a variant of a config; fields may be changed."""
    full = as_dict(settings_of(entered(config, variant, seed)))
    num_experts = full["num_experts"]
    average = {
        "accuracy": accuracy,
        "many": 0.9,
        "medium": 0.3,
        "few": None,
        "ece": 0.1,
        "nll": 1.5,
    }
    differ = [[0.0 if i == j else 0.25 for i in range(num_experts)] for j in range(num_experts)]
    made = {
        "format": FORMAT,
        "config": full,
        "options": own_choices(full),
        "splits": {
            "test": {
                "average": average,
                "experts": [{"accuracy": accuracy - 0.02 * i} for i in range(num_experts)],
                "disagreement": differ,
            }
        },
        "epochs": full["num_epochs"],
        "cost": {"train_seconds": 90.0, "parameters": 75_290, "multiply_adds": 12_239_488},
        "device": "a CPU",
        "versions": {"ltjax": "0.1.0"},
    }
    return made | changes


def save(folder, report):
    """As a finished run in a folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(report["config"]))
    (folder / "report.json").write_text(json.dumps(report))
    return Run(folder, report)
