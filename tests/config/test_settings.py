"""Every setting has a declaration, and the declaration is true of the net and of the images that the net gets."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from support.small_runs import small_config

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import RunConfig, canonical_json, make_config
from dc_hpc.config.settings import DeclaredSettings, Setting
from dc_hpc.experiment.build import build_trunk, views_of
from dc_hpc.experiment.reuse import first_pass

# A second value of each setting whose type does not suggest one.
OTHER_VALUES: dict[str, Any] = {
    "dataset": "mnist",
    "data_digest": "0" * 64,
    "train_digest": "0" * 64,
    "test_digest": "0" * 64,
    "net_digest": "0" * 64,
    "net": "alexnet_small",
    "halt_cycle": 2,
    "resume_leak": 3,
    "resize": 50,
    "mean": (0.1,),
    "std": (0.9,),
    "probe": ("relu2",),
    "momentum": 0.7,
    "probe_momentum": 0.7,
    "training_view": "none",
    "halt_rule": "plateau",
    "teacher_seed": 9,
    "soft_reset": 0.2,
}


def test_a_setting_that_does_not_say_what_it_affects_is_refused_at_import():
    """Runs of one process share a first pass. A setting of the net that nobody declared would share wrong features."""
    with pytest.raises(TypeError, match="setting wider: its type needs one Setting"):

        class Wider(RunConfig):
            wider: bool = False

    with pytest.raises(TypeError, match="affects 'net' is not one of first_pass"):
        Setting("net", "a word that is none of the stages")
    with pytest.raises(TypeError, match="say identity=False"):
        Setting("none", "in the run's name, although it changes nothing")


def test_runs_that_differ_in_a_new_setting_of_the_net_share_no_first_pass(digits_root):
    class Wider(RunConfig):
        wider: Annotated[bool, Setting("first_pass", "a wider first layer")] = False

    settings = dict(small_config(digits_root))
    plain, wider = Wider(**settings), Wider(**settings, wider=True)
    assert first_pass(plain) != first_pass(wider)


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_only_settings_that_say_so_change_the_first_pass(name, digits_root):
    """Only these change the untrained net or the view of the images that are clustered."""
    plain = small_config(digits_root) if name != "sobel" else _colour_config()
    other = _with_another_value(plain, name)
    changed = _first_pass_inputs(plain) != _first_pass_inputs(other)
    assert changed == (RunConfig.declared[name].affects == "first_pass")
    assert (first_pass(plain) != first_pass(other)) == (RunConfig.declared[name].affects == "first_pass")


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_what_is_no_part_of_the_identity_renames_no_run(name, digits_root):
    plain = small_config(digits_root)
    plain = plain if name != "sobel" else _colour_config()
    renamed = canonical_json(plain) != canonical_json(_with_another_value(plain, name))
    assert renamed == RunConfig.declared[name].identity


def test_words_and_lists_follow_from_the_declarations():
    assert RunConfig.words_for_none("halt_cycle") == ("never", "off", "none")
    assert RunConfig.words_for_none("pca") == ("off", "none") and RunConfig.words_for_none("k") == ()
    assert [name for name in RunConfig.model_fields if RunConfig.is_list(name)] == ["mean", "std", "probe"]
    assert RunConfig.types_of("features") >= {int} and RunConfig.types_of("batch_norm") == {bool}
    assert all(one.meaning and one.meaning[0] != " " and "\n" not in one.meaning for one in RunConfig.declared.values())


def test_a_plain_model_needs_no_declarations_and_a_declared_one_needs_exactly_one():
    class Plain(BaseModel):
        k: int = 1

    assert Plain().k == 1
    with pytest.raises(TypeError, match="needs one Setting"):

        class Twice(DeclaredSettings):
            k: Annotated[int, Setting("probe", "once"), Setting("probe", "twice")] = 1


def _first_pass_inputs(config: RunConfig) -> tuple[Any, ...]:
    """What the features of the fresh net are made of: the images, their clustering view, the net and its filters."""
    from dc_hpc.algorithm.state import init_state

    trunk = build_trunk(config)
    constants = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    seed = config.seed if config.teacher_seed is None else config.teacher_seed  # of the net that is clustered first
    init_state(trunk, seed=seed, draws=config.draws, **constants)
    drawn = hashlib.sha256()
    for name, value in trunk.state_dict().items():
        drawn.update(name.encode() + value.numpy().tobytes())
    views = views_of(config)
    view = (views.resize, views.crop, tuple(views.mean), tuple(views.std), views.per_image_standardization)
    return (
        config.dataset,
        config.data_digest,
        config.train_digest,
        config.net_digest,
        str(trunk),
        drawn.hexdigest(),
        view,
    )


def _with_another_value(config: RunConfig, name: str) -> RunConfig:
    value, types = getattr(config, name), RunConfig.types_of(name)
    other = OTHER_VALUES.get(name)
    if other is None:
        other = _another(value, types, name)
    settings = dict(config) | {name: other}
    if name == "net":  # the other net reads colours
        settings |= {"mean": (0.5,) * 3, "std": (0.2,) * 3, "probe": ()}
    if name == "resume_leak":
        settings |= {"halt_cycle": 2, "cycles": 5}
    if name in ("halt_patience", "halt_tolerance"):
        settings |= {"halt_rule": "plateau"}
    if name == "teacher_seed":
        settings |= {"halt_cycle": 1}
    if name == "crop":  # a net has one size
        return config.model_copy(update={name: other})
    return make_config(settings)


def _colour_config() -> RunConfig:
    settings = BASELINES["svhn"] | PROTOCOLS["svhn"]["text"]
    return make_config(settings | {"seed": 1, "protocol": "text"})


def _another(value: Any, types: frozenset[Any], name: str) -> Any:
    if types == {bool}:
        return not value
    if value is None or isinstance(value, int):
        return (value or 0) + 1
    if isinstance(value, float):
        return value / 2 or 0.1
    allowed = RunConfig.model_json_schema()["properties"][name]
    words = allowed.get("enum") or next(one["enum"] for one in allowed["anyOf"] if "enum" in one)
    return next(word for word in words if word != value)
