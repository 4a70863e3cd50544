import json
import re
import statistics

import pytest
from conftest import ROOT
from reports import CIFAR, report
from scipy.stats import spearmanr

from ltjax.compare import quoted
from ltjax.compare.published import PUBLISHED
from ltjax.compare.rows import Run, rows
from ltjax.compare.variants import entered, parse
from ltjax.errors import UserError
from ltjax.methods import METHODS
from ltjax.models import NETWORKS
from ltjax.recipes import settings_of

DOCS = sorted((ROOT / "docs").glob("*.md"))


def test_a_published_number_is_one_number_of_a_method_here():
    seen = set()
    for one in PUBLISHED:
        assert parse(one.method).method in METHODS
        assert 20 < one.value < 100 and one.factor >= 1
        assert one.backbone in NETWORKS or one.backbone in ("resnet18", "resnet34")
        assert one.augmentation in (None, "pad_crop_flip", "strong")
        assert re.match(r"(S|S2|M|S2 / M)(, |$)", one.source), one
        assert re.fullmatch(r"(\d\d\.\d/\d\d\.\d/\d\d\.\d)?", one.groups)
        seen.add((*one[:6], one.source))
    assert len(seen) == len(PUBLISHED)


@pytest.mark.parametrize("method", sorted({one.method for one in PUBLISHED}))
def test_its_method_is_a_variant_that_can_be_run(method):
    config = {"data": CIFAR["data"], "network": {"name": "resnet32"}}
    settings_of(entered(config, method, 0))


def row(variant, **changes):
    (found,) = rows([(variant, Run(None, report(variant, config=CIFAR | changes)))])
    return found


def test_a_row_has_the_numbers_of_its_method_options_data_and_factor():
    def values(*args, **changes):
        return [one.value for one in quoted.of(row(*args, **changes))]

    assert values("bbn") == [79.48, 79.82]
    assert values("focal+loss.gamma=1.0") == [70.38]
    assert values("bbn:3") == [79.48, 79.82]
    assert values("bbn", data={"name": "cifar100", "imbalance_factor": 10.0}) == [59.12]
    assert values("bbn", data={"name": "cifar10", "imbalance_factor": 30.0}) == []
    steps = {"name": "cifar10", "imbalance_factor": 100.0, "imbalance": "step"}
    assert values("bbn", data=steps) == []
    assert values("classifier", loss={"name": "focal"}) == []  # not plain cross-entropy
    assert 69.92 in values("classifier:4") and 69.92 not in values("classifier:3")


def test_the_short_range_is_of_the_same_augmentation():
    assert quoted.shortly(row("balanced_softmax")) == "77.5"
    assert quoted.shortly(row("balanced_softmax", augment={"name": "none"})) == "77.5-83.6"
    assert quoted.shortly(row("ncm")) == ""


@pytest.mark.parametrize("page", DOCS, ids=[path.stem for path in DOCS])
def test_documents_quote_the_numbers_as_they_are(page):
    text = page.read_text()
    # python -m ltjax.compare.quoted docs/*.md renews them
    assert quoted.renewed(text, page.name) == text
    outside = re.sub(r"<!-- published:.*?<!-- end of published -->", "", text, flags=re.DOTALL)
    for paragraph in outside.split("\n\n"):
        if re.search(r"\bPublished\b", paragraph):
            assert not re.search(r"\b\d\d\.\d", paragraph), paragraph


def test_a_document_is_renewed_between_its_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    old = (
        "before\n<!-- published: bbn; factors 50 -->\nold 12.3\n<!-- end of published -->\nafter\n"
    )
    page.write_text(old)
    assert quoted.main([str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "12.3" not in text
    assert "| `bbn` | 82.18 | 47.02 | S2, a leaderboard |" in text
    with pytest.raises(UserError, match="page: no published number of bbm"):
        quoted.renewed(old.replace("bbn", "bbm"), "page")
    assert quoted.main([str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err


def test_how_little_ten_epochs_say_is_computed():
    """The rank correlation that results/README.md gives."""
    rows = json.loads((ROOT / "results" / "cifar10_lt_100_10_epochs.json").read_text())["rows"]
    ours = {row["method"]: statistics.mean(row["test"]["accuracy"]) for row in rows}
    theirs = {}
    for one in PUBLISHED:
        if (one.data, one.factor, one.backbone) != ("cifar10", 100, "resnet32"):
            continue
        if one.method not in ("ride", "sade", "ncl") and (one.epochs is None or one.epochs >= 200):
            theirs.setdefault(one.method, []).append(one.value)
    both = [name for name in ours if name in theirs]
    pairs = [(ours[name], statistics.median(theirs[name])) for name in both]
    found = spearmanr(*zip(*pairs, strict=True)).statistic
    text = " ".join((ROOT / "results" / "README.md").read_text().split())
    assert f"Of the {len(both)} methods with a published ResNet-32" in text
    assert f"correlation of its median with this table is {found:.2f}." in text
