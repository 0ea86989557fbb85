"""What users of SLURM, YAML and torch write by mistake is refused in one line that names the right form."""

import time

import numpy as np
import pytest

from dc_hpc.config import key_names
from dc_hpc.config.allowed import allowed, validator
from dc_hpc.config.grid import SETTINGS, TOP_KEYS, Resources, parse_override, read_grid
from dc_hpc.config.key_names import GRID_KEYS, RESOURCES, SITE
from dc_hpc.config.right_forms import right_form
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.scheduler.launch import sbatch_text
from dc_hpc.scheduler.site import Site, read_site

HEAD = "base: fmnist\nprotocol: code\n"
SWEEP = "sweep: {seed: [1]}\n"
RANGE = "write 1..5 under sweep for a range, both ends included; allowed: a whole number from 0 to 2147483647"
LIST = "write [5, 20] under sweep for several values; allowed: a whole number from 1 to 10000000"


def refusal(read, path, text):
    path.write_bytes(text.encode())
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value)


@pytest.fixture
def refused(tmp_path):
    """The message about a grid."""
    return lambda text: refusal(lambda path: read_grid(path, data_root=tmp_path), tmp_path / "grid.yaml", text)


@pytest.fixture
def refused_site(tmp_path):
    """The message about a site profile."""
    return lambda text: refusal(read_site, tmp_path / "site.yaml", text)


@pytest.mark.parametrize(
    "seeds",
    ["1-5", "1:5", "1 .. 5", "1...5", "1 to 5", "range(1,6)", "'range(1, 6)'", "1\u20135", "'1..5 '", "1 \u2014 5"],
)
def test_a_range_in_another_notation(seeds, refused):
    assert RANGE in refused(HEAD + f"sweep:\n  seed: {seeds}\n")


@pytest.mark.parametrize("values", ["5,20", "5, 20", "(5, 20)", "5 20", "5; 20", "'[5, 20]'", '"5,20,"'])
def test_a_list_in_another_notation(values, refused):
    assert LIST in refused(HEAD + f"sweep:\n  k: {values}\n  seed: [1]\n")


@pytest.mark.parametrize(
    "setting, phrase",
    [
        ("k: [5, 20]", LIST),
        ("seed: 1..5", RANGE),
        ("k: 5.0", "write 5; allowed"),
        ("k: 1e3", "write 1000; allowed"),
        ("k: 1_000", "write 1000; allowed"),
        ("k: '5'", "write 5 without quotes"),
        ("lr: '1e-3'", "write 0.001"),
        ('lr: "0.1"', "write 0.1 without quotes"),
        ("lr: 0,1", "write 0.1; allowed: a number above 0 and below 1000000"),
        ("lr: -0.1", "allowed: a number above 0 and below 1000000"),
        ("momentum: 1", "allowed: a number of at least 0 and below 1"),
        ("cycles: -3", "allowed: a whole number from 0 to 100000"),
        ("batch_norm: yes", "write on; allowed: on or off"),
        ("batch_norm: 0", "write off; allowed: on or off"),
        ("batch_norm: 'True'", "write on; allowed: on or off"),
        ("pca: no", "write off; allowed: a whole number from 1 to 10000000, or off"),
        ("pca: False", "write off; allowed: a whole number from 1 to 10000000, or off"),
        ("pca: Off", "write off; allowed: a whole number from 1 to 10000000, or off"),
        ("halt_cycle: 0", "write never; allowed: a whole number from 1 to 10000000, or never"),
        ("halt_cycle: inf", "write never"),
        ("halt_cycle: -1", "write never"),
        ("probe: False", "write none; allowed: a list, each item a word, or none"),
        ("probe: never", "allowed: conv1, bn1, relu1, pool1, conv2, bn2, relu2, pool2, fc1, fc1_relu, fc2, or none"),
        ("probe: conv_2", 'did you mean "conv2"?; allowed: conv1, bn1'),
        ("probe: 'conv2, fc1'", "write [conv2, fc1]; allowed: conv1, bn1"),
        ("sobel: yes", "write fixed; allowed: off, fixed, random"),
        ("kmeans_init: kmeans++", 'did you mean "k-means++"?'),
        ("training_view: flips", 'did you mean "flip"?'),
        ("mean: '0.5, 0.4'", "write [0.5, 0.4]"),
        ("features: all", "write every; allowed: none, first, first_last, every, or a whole number from 1"),
        ("labels: supervised", "write on; allowed: on or off"),
        ("net: resnet18", "allowed: lenet5, alexnet_small, alexnet"),
        ("dataset: FashionMNIST", 'did you mean "fmnist"?'),
        ("dataset: CIFAR-10", 'did you mean "cifar10"?'),
        ("dataset: data/mine", "write mine, the name of a file or folder in the data folder"),
        ("epochs: 3", 'did you mean "cycles" (cycles of one epoch each, N_c;'),
        ("epochs: 3", 'or "epochs_per_cycle" (training epochs in a cycle, N_e) or "probe_epochs"'),
        ("halt: 3", 'did you mean "halt_cycle" (number of clusterings, after which the labels stay'),
        ("learning_rate: 3", 'did you mean "lr"'),
        ("batch: 3", 'did you mean "batch_size"'),
        ("n_clusters: 3", 'did you mean "k" (number of clusters)?'),
        ("nmb_cluster: 3", 'did you mean "k" (number of clusters)?'),
        ("seeds: 3", 'did you mean "seed"'),
        ("PCA-dim: 3", 'did you mean "pca"'),
        ("data: mine", 'did you mean "dataset"'),
        ("workers: 3", "--slots is an option of submit"),
        ("device: cuda", "--device is an option of submit"),
        ("gpus: 1", "gpus belongs in the site profile, which is given with --site"),
        ("mem: 16", "memory_gb belongs in the site profile"),
        ("minutes: 30", "minutes belongs in the grid, under resources"),
        ("optimizer: adam", "unknown key 'optimizer'; allowed: dataset, net, k, seed"),
        ("{5, 20}: 3", "a key must be a string"),
    ],
)
def test_a_wrong_setting(setting, phrase, refused):
    sweep = "sweep: {k: [5]}\n" if setting.startswith("seed:") else SWEEP
    message = refused(HEAD + f"fixed:\n  {setting}\n" + sweep)
    assert phrase in message and "grid.yaml:4: " in message


@pytest.mark.parametrize(
    "text, phrase",
    [
        (
            HEAD + SWEEP + "epochs: 3\n",
            "4: unknown key 'epochs'; cycles is a setting, so it belongs under fixed or sweep",
        ),
        (HEAD + "seed: 1..5\n", "3: unknown key 'seed'; seed is a setting, so it belongs under fixed or sweep"),
        (HEAD + SWEEP + "partition: gpu\n", "partition belongs in the site profile"),
        (HEAD + SWEEP + "minutes: 30\n", "minutes belongs in the grid, under resources"),
        (HEAD + "matrix: {seed: [1]}\n", 'did you mean "sweep"?'),
        (HEAD + SWEEP + "resources: {time: 60}\n", "4: unknown key 'time'; did you mean \"minutes\"?"),
        (HEAD + SWEEP + "resources: {gpus: 1}\n", "gpus belongs in the site profile"),
        (HEAD + SWEEP + "resources: {minutes: 4h}\n", "write 240; allowed: a whole number from 1 to 100000"),
        (HEAD + SWEEP + "resources: {minutes: '1-04:30:00'}\n", "write 1710 minutes"),
        (
            "base: Fashion-MNIST\nprotocol: code\n" + SWEEP,
            "1: base 'Fashion-MNIST' is not allowed; did you mean \"fmnist\"?",
        ),
        ("base: fmnist\nprotocol: paper\n" + SWEEP, 'did you mean "text"?; allowed: text, code'),
        ("base: fmnist\nprotocol: authors\n" + SWEEP, 'did you mean "code"?; allowed: text, code'),
        (
            HEAD + "sweep:\n  k: {5, 20}\n",
            "4: a key must be a string; write one word, or put it in quotes; a list is [5, 20]",
        ),
        (HEAD + "sweep:\n  seed:[1]\n", "3: sweep must map settings to lists, for example {seed: 1..5}; write a space"),
        (HEAD + "sweep: {seed: 5..1}\n", "write 1..5"),
        (HEAD + "sweep:\n  \u2013 seed: 1\n", 'did you mean "seed"'),
        (HEAD + "sweep:\n\tseed: [1]\n", "4: not YAML"),
    ],
)
def test_a_wrong_grid(text, phrase, refused):
    assert phrase in refused(text)


@pytest.mark.parametrize("minutes", ["9" * 400 + "h", "9" * 5000 + ":30"])
def test_a_value_far_too_long_is_refused_at_once(minutes, refused):
    assert "is not allowed; allowed: a whole number from 1 to 100000" in refused(
        HEAD + SWEEP + f"resources: {{minutes: '{minutes}'}}\n"
    )


def test_no_form_is_looked_for_in_a_text_that_is_far_too_long():
    """The patterns take seconds on 20,000 spaces, and hours on as many as a grid may hold."""
    begun = time.process_time()
    assert right_form(RunConfig, "k", "a" + " " * 20_000 + "]x") == ""
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEAD + SWEEP,
        (HEAD + SWEEP).replace("\n", "\r\n"),
        HEAD + "sweep: {seed: [1,], k: [5, 20,]}\n",
        HEAD + "fixed: {halt_cycle: none, pca: off}\n" + SWEEP,
        HEAD + SWEEP + "resources:\n",
    ],
    ids=["byte order mark", "windows line ends", "trailing commas", "none", "empty resources"],
)
def test_what_means_one_thing_only_is_read(text, tmp_path):
    (tmp_path / "grid.yaml").write_bytes(text.encode())
    assert read_grid(tmp_path / "grid.yaml", data_root=tmp_path).points[0].seed == 1


def test_a_file_name_of_own_images_names_the_data_set(refused, tmp_path):
    np.savez(tmp_path / "tiny.npz", x=np.zeros(1))
    line = refused(HEAD + "fixed: {dataset: tiny.npz}\n" + SWEEP)
    assert line.endswith("dataset 'tiny.npz' is not allowed; write tiny, without the ending")
    assert 'did you mean "tiny"?' in refused(HEAD + "fixed: {dataset: tinny}\n" + SWEEP)


@pytest.mark.parametrize(
    "text, phrase",
    [
        ("time: 60\n", "unknown key 'time'; minutes belongs in the grid, under resources"),
        ("mem: 16G\n", 'did you mean "memory_gb"?'),
        ("queue: gpu\n", 'did you mean "partition"?'),
        ("modules: [x]\n", 'did you mean "setup"?'),
        ("mail-type: END\n", "an option of sbatch is given under extra: {mail-type: ...}"),
        ("k: 3\n", "k is a setting, so it belongs under fixed or sweep"),
        ("memory_gb: 16G\n", "write 16; allowed: a whole number from 1 to 100000, or null"),
        ("memory_gb: 32000M\n", "write 31"),
        ("signal_delay: 90s\n", "write 90"),
        ("gpus: a100:1\n", "write 1, and the type as gpu_type: a100"),
        ("gpus: '1'\n", "write 1 without quotes"),
        (
            "account: 12345\n",
            'write "12345" in quotes; allowed: a word of at most 128 letters, digits and . _ : / = , @ + -',
        ),
        ("requeue: no\n", "write off; allowed: on or off"),
        ("setup: module load x\n", "write it as a list: [module load x]"),
        ("setup:\n  - export NOTE=a: b\n", "write 'export NOTE=a: b' in quotes, because of its colon"),
        ("partition: [a, b]\n", "write a,b without brackets"),
        ("extra: {--constraint: a}\n", "write a long name without dashes"),
        (
            "extra: {constraint: 'a b'}\n",
            "1: extra.constraint 'a b' is not allowed; allowed: a mapping, each value a word",
        ),
    ],
)
def test_a_wrong_site_profile(text, phrase, refused_site):
    message = refused_site(text)
    assert phrase in message and "site.yaml:1: " in message


def test_a_site_profile_reads_on_and_off_and_what_sbatch_options_hold(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("requeue: off\nextra: {constraint: '[a100|h100]&ib', exclude: 'node[01-03]'}\n")
    site = read_site(path)
    script = sbatch_text(site, Resources(), name="grid", outputs=tmp_path, tasks=1).splitlines()
    assert "#SBATCH --constraint='[a100|h100]&ib'" in script and "#SBATCH --exclude='node[01-03]'" in script
    assert "#SBATCH --no-requeue" in script


@pytest.mark.parametrize("value", ["a b", "a;b", "a'b", 'a"b', "a#b", "a$b", "a`b", "a\\b", "a\nb", "a>b", "a<b", "-a"])
def test_no_option_of_sbatch_can_end_its_line_or_start_a_command(value):
    with pytest.raises(ValueError, match="extra"):
        Site(extra={"constraint": value})


@pytest.mark.parametrize(
    "text, phrase",
    [
        ("epochs=3", 'did you mean "cycles"'),
        ("minutes=3", "minutes belongs in the grid, under resources"),
        ("partition=gpu", "partition belongs in the site profile"),
        ("--k=5", 'did you mean "k"'),
    ],
)
def test_a_wrong_set(text, phrase):
    with pytest.raises(InputError) as caught:
        parse_override(text)
    assert phrase in str(caught.value)


def test_other_names_belong_to_keys_that_exist_and_hide_none():
    assert set(GRID_KEYS) == set(TOP_KEYS) and set(RESOURCES) == set(Resources.model_fields)
    assert set(SITE) <= set(Site.model_fields)
    assert set(key_names.SETTINGS) <= set(SETTINGS)
    for names in (GRID_KEYS, RESOURCES, SITE, key_names.SETTINGS):
        others = [other for words in names.values() for other in words]
        assert not set(others) & set(names), "another name of one key is the name of another"
        assert all(other == other.lower() and "-" not in other for other in others)


@pytest.mark.parametrize("model", [RunConfig, Resources, Site])
def test_what_is_allowed_is_said_of_every_key_and_is_true(model):
    """The ends of a range that a message names are allowed, and what lies beyond is not."""
    for name in model.model_fields:
        words = allowed(model, name)
        assert words and "any value" not in words, name
        if not words.startswith("a whole number from "):
            continue
        low, high = (int(word) for word in words.removeprefix("a whole number from ").split(",")[0].split(" to "))
        for value in (low, high):
            validator(model, name).validate_python(value)
        for value in (low - 1, high + 1):
            with pytest.raises(ValueError):
                validator(model, name).validate_python(value)
