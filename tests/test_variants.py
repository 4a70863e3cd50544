import pytest

from ltjax.compare.variants import entered, folder_name, of_folder, parse
from ltjax.errors import UserError


def test_a_name_is_a_method_its_options_and_its_number_of_experts():
    assert parse("ride") == ("ride", {}, None)
    assert parse("classifier:3") == ("classifier", {}, 3)
    method, options, num_experts = parse("focal+loss.gamma=1e+3+sampler.name=power+sampler.q=0.5:1")
    assert (method, num_experts) == ("focal", 1)
    assert options == {"loss": {"gamma": 1e3}, "sampler": {"name": "power", "q": 0.5}}


def test_a_config_takes_what_a_name_says():
    config = {"num_experts": 2, "loss": {"gamma": 1.0}, "seed": 7, "batch_size": 16}
    found = entered(config, "focal+loss.gamma=2:1", 3)
    assert found == {
        "num_experts": 1,
        "loss": {"gamma": 2},
        "method": {"name": "focal"},
        "seed": 3,
        "batch_size": 16,
    }
    assert config["seed"] == 7 and config["loss"] == {"gamma": 1.0}


@pytest.mark.parametrize(
    "name, seed, folder",
    [
        ("drw", 0, "drw-0"),
        ("classifier:3", 12, "classifier-x3-12"),
        ("tau_norm+method.tau=-1.5", 0, "tau_norm+method.tau=-1.5-0"),
        ("focal+loss.gamma=1e-05:2", 4, "focal+loss.gamma=1e-05-x2-4"),
    ],
)
def test_a_folder_says_which_variant_and_seed_it_is_of(name, seed, folder):
    assert folder_name(name, seed) == folder
    assert of_folder(folder) == (name, seed)


@pytest.mark.parametrize("folder", ["drw", "drw-", "drw-00", "-0", "drw-1.5", "drw-0-copy"])
def test_other_folders_are_of_none(folder):
    assert of_folder(folder) is None


def test_no_two_variants_have_the_same_folder():
    with pytest.raises(UserError, match=r"write focal:3 for that"):
        parse("focal+sampler.name=a-x3")
