import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dc_hpc.config.baselines import BASELINES, PROTOCOLS, protocol_of
from dc_hpc.config.run_config import RunConfig, canonical_json, make_config, run_id
from dc_hpc.errors import InputError


def config(base="fmnist", protocol="code", **changes):
    settings = BASELINES[base] | PROTOCOLS[base][protocol] | {"seed": 61} | changes
    return make_config(settings | {"protocol": protocol_of(base, settings)})


# These names are on people's disks: a change of one loses their results.
GOLDEN = {
    ("fmnist", "text"): "fmnist-k5-seed61-9c72f861e608",
    ("fmnist", "code"): "fmnist-k5-seed61-ee6fc5abbf23",
    ("mnist", "text"): "mnist-k9-seed61-ead742a10a1b",
    ("mnist", "code"): "mnist-k9-seed61-e28d11dad360",
    ("svhn", "text"): "svhn-k200-seed61-274f617e2977",
    ("svhn", "code"): "svhn-k200-seed61-7ca9f39f2fe5",
    ("cifar10", "text"): "cifar10-k1000-seed61-c7d62fa11512",
    ("cifar10", "code"): "cifar10-k1000-seed61-d960bf2209ab",
    ("cifar10_alexnet", "text"): "cifar10-k2000-seed61-d6588311fff4",
    ("cifar10_alexnet", "code"): "cifar10-k2000-seed61-a6b85ebb3c8a",
    ("fmnist", "code_2021"): "fmnist-k5-seed61-5ae3df008c9c",
    ("mnist", "code_2021"): "mnist-k9-seed61-b1fe746e1c6a",
    ("svhn", "code_2021"): "svhn-k200-seed61-a2ba8fd069ac",
    ("cifar10", "code_2021"): "cifar10-k1000-seed61-dafef145ea5b",
    ("cifar10_alexnet", "code_2021"): "cifar10-k2000-seed61-170fbe0ed9be",
}


@pytest.mark.parametrize("base, protocol", GOLDEN)
def test_golden_names(base, protocol):
    assert run_id(config(base, protocol)) == GOLDEN[base, protocol]


def test_names_say_what_a_person_looks_for():
    assert run_id(config(halt_cycle=10)).startswith("fmnist-k5-halt10-seed61-")
    assert run_id(config(halt_cycle=1, resume_leak=2)).startswith("fmnist-k5-halt1-leak2-seed61-")
    assert run_id(config(cycles=0)).startswith("fmnist-k5-ia-seed61-")
    assert run_id(config(labels=True, k=10)).startswith("fmnist-k10-labels-seed61-")


def test_what_does_not_change_the_result_is_not_in_the_name():
    assert run_id(config(features="every")) == run_id(config())
    assert run_id(config().model_copy(update={"protocol": "text"})) == run_id(config())


def test_every_other_field_is_in_the_name():
    other = {
        "dataset": "mnist",
        "k": 6,
        "seed": 1,
        "cycles": 3,
        "last_cycle": "train",
        "batch_norm": False,
        "lr": 0.2,
        "momentum": 0.2,
        "weight_decay": 0.1,
        "batch_size": 64,
        "kmeans_init": "random",
        "resize": 50,
        "mean": (0.1,),
        "std": (0.1,),
        "training_view": "none",
        "data_digest": "0" * 64,
        "train_digest": "0" * 64,
        "test_digest": "0" * 64,
        "net_digest": "0" * 64,
        "pca": 3,
        "halt_cycle": 2,
        "reassign": 2,
        "epochs_per_cycle": 2,
        "kmeans_iterations": 3,
        "draws": "authors",
        "per_image_standardization": True,
        "halt_rule": "plateau",
        "soft_reset": 0.5,
        "kmeans_n_init": 3,
        "probe": (),
        "probe_flip": False,
        "probe_crop": True,
        "probe_average_pool": 2,
        "probe_epochs": 3,
        "probe_lr": 0.1,
        "probe_momentum": 0.1,
        "probe_weight_decay": 0.1,
        "probe_batch_size": 3,
        "labels": True,
    }
    # crop and net follow from each other, sobel from the net; resume_leak and teacher_seed need a halt, patience and
    # tolerance a rule
    untested = {"net", "crop", "sobel", "resume_leak", "protocol", "features"}
    untested |= {"halt_patience", "halt_tolerance", "teacher_seed"}
    assert set(other) | untested == set(RunConfig.model_fields)
    names = {run_id(config(**{name: value})) for name, value in other.items()}
    assert len(names | {run_id(config())}) == len(other) + 1


def test_draws_of_the_authors_need_what_their_code_needs():
    with pytest.raises(InputError, match="^seed 0 has no draws of the authors where faiss clusters"):
        config(draws="authors", kmeans_init="random", seed=0)
    assert config(draws="authors", kmeans_init="random", seed=1) and config(draws="authors", seed=0)
    with pytest.raises(InputError, match="^draws 'theirs' is not allowed.*; allowed: ours, authors"):
        config(draws="theirs")


def test_a_neutral_value_is_left_out_so_that_new_fields_rename_nothing():
    settings = json.loads(canonical_json(config()))
    assert "epochs_per_cycle" not in settings and "pca" not in settings and "halt_cycle" not in settings
    assert json.loads(canonical_json(config(pca=3)))["pca"] == 3


def test_halting_when_the_run_ends_is_never_halting():
    assert run_id(config(halt_cycle=50)) == run_id(config(halt_cycle=100)) == run_id(config())
    assert config(halt_cycle=49).halt_cycle == 49
    assert config(halt_cycle=49, last_cycle="stop").halt_cycle is None, "its last clustering is that of cycle 48"
    assert config(halt_cycle=48, last_cycle="stop").halt_cycle == 48


@pytest.mark.parametrize("base", BASELINES)
def test_the_protocol_is_read_off_the_fields(base):
    assert [config(base, protocol).protocol for protocol in PROTOCOLS[base]] == ["text", "code", "code_2021"]
    assert config(base, "code", training_view="none").protocol == "mixed"
    assert config(base, "code_2021", last_cycle="skip").protocol == "mixed"


@pytest.mark.parametrize("base", BASELINES)
def test_what_the_authors_code_of_a_year_also_did_has_its_protocol(base):
    """The break of 2022 leaves the last clustering out, too; the jobs from April 2021 on cut a box for a batch."""
    assert config(base, "code", last_cycle="stop").protocol == "code"
    assert config(base, "code_2021", training_view="box_per_batch").protocol == "code_2021"


def test_the_baselines_are_those_of_table_1():
    found = {
        base: tuple(
            BASELINES[base][name]
            for name in ("lr", "weight_decay", "momentum", "batch_norm", "cycles", "k", "pca", "batch_size")
        )
        for base in BASELINES
    }
    assert found["fmnist"] == (0.1, 0.001, 0.1, True, 50, 5, None, 128)
    assert found["svhn"] == (0.1, 0.001, 0.5, True, 100, 200, 256, 64)
    assert found["cifar10"] == (0.1, 0.001, 0.9, True, 100, 1000, 256, 64)
    assert found["cifar10_alexnet"] == (0.05, 1e-5, 0.9, True, 100, 2000, 256, 256)


def test_cifar10_is_normalised_with_the_constants_of_svhn_in_the_authors_code_only():
    assert config("cifar10", "code").mean == config("svhn", "code").mean
    assert config("cifar10", "text").mean == (0.4914, 0.4822, 0.4465)


@pytest.mark.parametrize(
    "base, change, message",
    [
        ("fmnist", dict(k=0), "k 0 is not allowed; allowed: a whole number from 1 to 10000000"),
        ("fmnist", dict(k=60_001), "k 60001 is larger than the 60000 images of fmnist"),
        ("fmnist", dict(k="many"), "k 'many' is not allowed; allowed: a whole number"),
        ("fmnist", dict(k=5.0), "k 5.0 is not allowed; write 5; allowed: a whole number"),
        ("fmnist", dict(lr=float("nan")), "lr nan is not allowed"),
        (
            "fmnist",
            dict(halt_cycle=0),
            "halt_cycle 0 is not allowed; write never; allowed: a whole number from 1 to 10000000, or never",
        ),
        ("fmnist", dict(pca=85), "pca 85 is larger than the 84 features of lenet5; allowed: 1 to 84, or off"),
        ("fmnist", dict(net="lenet"), "net 'lenet' is not allowed; did you mean \"lenet5\"?"),
        ("fmnist", dict(net="vgg"), "alexnet, or module:function for a net of your own"),
        ("fmnist", dict(sobel="fixed"), "sobel fixed needs three colours and lenet5 reads one"),
        ("fmnist", dict(dataset="svhn"), "net lenet5 reads 1 channels and dataset svhn has 3"),
        ("fmnist", dict(probe=("relu5",)), 'is not in lenet5; did you mean "relu2"?; allowed: conv1'),
        ("fmnist", dict(probe=("bn1",), batch_norm=False), "probe layer bn1 is not in lenet5"),
        ("fmnist", dict(dataset="a\nb"), "allowed: a word of at most 64 letters, digits and . _ -"),
        ("fmnist", dict(labels=True, halt_cycle=3), "labels on trains on the truth and never clusters"),
        ("fmnist", dict(last_cycle="stop", cycles=1), "last_cycle stop leaves nothing of 1 cycle: give cycles of 2"),
        ("fmnist", dict(resume_leak=3), "resume_leak 3 needs a halt_cycle of at most 3"),
        ("svhn", dict(crop=31), "crop 31 does not fit alexnet_small; allowed: 32"),
        ("svhn", dict(mean=(0.1,)), "mean needs 3 numbers for alexnet_small"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(base, change, message):
    with pytest.raises(InputError) as caught:
        config(base, **change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_setting_gets_a_suggestion():
    with pytest.raises(InputError, match="unknown key 'batchsize'; did you mean \"batch_size\""):
        config(batchsize=3)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine
@given(
    st.dictionaries(
        st.sampled_from([name for name in RunConfig.model_fields if name != "protocol"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=5), st.lists(st.integers())
        ),
        max_size=4,
    )
)
def test_any_settings_give_a_config_or_one_line(changes):
    try:
        one = config(**changes)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert make_config(one.model_dump()) == one
