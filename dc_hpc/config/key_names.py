"""Other names that people use for keys and options, and the place where each belongs.

None of these names is allowed; messages about an unknown key or option say what is meant. A key that is missing here
has no other name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from dc_hpc.config.run_config import RunConfig
from dc_hpc.config.yaml_reader import did_you_mean, short
from dc_hpc.data.catalog import DATASETS

Names = Mapping[str, tuple[str, ...]]  # key -> its other names

GRID_KEYS: Names = {
    "base": ("baseline", "extends", "inherit"),
    "protocol": (),
    "fixed": ("settings", "config", "params", "parameters", "defaults", "common", "set", "args"),
    "sweep": ("matrix", "product", "search", "sweeps", "axes", "grid_search", "hyperparameters"),
    "resources": ("resource", "slurm", "sbatch", "cluster"),
}
SETTINGS: Names = {
    "dataset": ("data", "data_set", "dataset_name", "datasets"),
    "net": ("model", "arch", "architecture", "network", "backbone", "encoder"),
    "k": ("n_clusters", "clusters", "num_clusters", "nclusters", "n_cluster", "nmb_cluster", "n_centroids"),
    "seed": ("seeds", "random_seed", "random_state", "manual_seed", "rng"),
    "cycles": ("epochs", "n_epochs", "num_epochs", "max_epochs", "n_cycles", "num_cycles", "iterations", "n_c"),
    "batch_norm": ("bn", "batchnorm", "use_bn"),
    "sobel": ("sobel_filter", "use_sobel"),
    "lr": ("learning_rate", "base_lr", "eta", "learningrate"),
    "momentum": ("sgd_momentum",),
    "weight_decay": ("wd", "l2", "decay"),
    "batch_size": ("batch", "bs", "batchsize", "train_batch_size"),
    "kmeans_init": ("init", "initialization", "centroids_init"),
    "resize": ("image_size", "img_size", "size"),
    "crop": ("crop_size", "input_size"),
    "mean": ("means",),
    "std": ("stds", "sd"),
    "training_view": ("augmentation", "augment", "augmentations", "transform", "transforms"),
    "pca": ("pca_dim", "pca_components", "n_components", "pca_size"),
    "halt_cycle": ("halt", "halting", "halt_at", "stop", "stop_cycle", "early_stopping", "freeze"),
    "halt_rule": ("halting_rule", "stopping_rule", "stop_rule"),
    "halt_patience": ("patience",),
    "halt_tolerance": ("tolerance", "min_delta"),
    "soft_reset": ("soft_resets", "reset", "shrink_perturb"),
    "teacher_seed": ("teacher", "label_seed"),
    "reassign": ("reassign_every", "recluster", "reassignment"),
    "epochs_per_cycle": ("epochs", "n_epochs", "num_epochs", "n_e"),
    "per_image_standardization": (
        "per_image_standardisation",
        "image_contrast",
        "contrast",
        "standardize",
        "standardise",
        "instance_norm",
    ),
    "kmeans_iterations": ("kmeans_iter", "n_iter", "niter", "max_iter", "kmeans_niter"),
    "labels": ("supervised", "use_labels", "true_labels"),
    "resume_leak": ("leak",),
    "probe": ("probe_layer", "probe_layers", "layer", "layers", "linear_probe", "eval"),
    "probe_epochs": ("epochs", "eval_epochs", "linear_epochs"),
    "probe_lr": ("eval_lr", "linear_lr", "probe_learning_rate"),
    "features": ("save_features", "dump_features", "dump"),
}
RESOURCES: Names = {
    "minutes": ("time", "time_limit", "timelimit", "walltime", "wall_time", "timeout", "timeout_min", "hours"),
    "runs_per_task": ("runs_per_job", "pack", "chunk", "chunk_size"),
    "parallel_runs": ("parallel", "concurrency", "max_parallel", "ntasks", "runs_per_gpu"),
}
SITE: Names = {
    "partition": ("queue", "partitions"),
    "account": ("project", "charge_account", "allocation"),
    "qos": ("quality_of_service",),
    "gpus": ("gpu", "num_gpus", "ngpus", "n_gpus", "gpus_per_node", "gpus_per_task", "gres"),
    "gpu_type": ("gputype", "gpu_model"),
    "gpu_flag": (),
    "cpus": ("cpu", "cores", "num_cpus", "ncpus", "n_cpus", "cpus_per_task", "c"),
    "memory_gb": ("mem", "memory", "ram", "mem_gb", "memory_mb", "mem_per_cpu", "mem_per_node"),
    "array_throttle": ("throttle", "array_parallelism", "max_jobs", "max_running", "array"),
    "signal_delay": ("signal", "signal_delay_s", "grace", "grace_time"),
    "requeue": ("requeueable", "no_requeue"),
    "setup": ("modules", "module", "prologue", "init", "commands", "pre", "environment", "env", "conda"),
    "container": ("image", "apptainer", "singularity", "docker"),
    "extra": (
        "extras", "additional_parameters", "sbatch", "options", "constraint", "exclude", "nodelist", "reservation",
        "mail_type", "mail_user", "nice", "exclusive", "nodes", "licenses", "comment", "begin", "export",
    ),
}  # fmt: skip
OPTIONS: Names = {
    "--grid": ("config", "file", "f", "c", "job", "experiment", "yaml"),
    "--cluster": ("backend_cluster", "executor", "launcher", "slurm", "local", "where"),
    "--outputs": ("output", "out", "output_dir", "outdir", "o", "results", "results_dir", "save_dir"),
    "--data": ("data_dir", "data_root", "datadir", "dataset_dir", "root", "d"),
    "--dry-run": ("dry", "dryrun", "n", "test", "check", "simulate"),
    "--slots": ("workers", "num_workers", "n_jobs", "jobs", "j", "processes", "parallel", "max_workers", "w"),
    "--threads": ("num_threads", "cpus", "omp_num_threads", "n_threads", "cores"),
    "--device": ("gpu", "cuda", "cpu", "accelerator"),
    "--kmeans-backend": ("backend", "kmeans", "faiss", "sklearn"),
    "--limit": ("max_runs", "first", "max", "count"),
    "--yes": ("force", "no_confirm", "confirm", "assume_yes"),
    "--site": ("profile", "site_profile", "cluster_config", "partition_file"),
    "--set": ("override", "overrides", "s", "param"),
}
PROTOCOLS: Names = {
    "text": ("paper", "article"),
    "code": ("authors", "original", "official", "github", "repo", "code2022"),
    "code_2021": ("authors2021", "old", "oldcode", "code2020", "2021"),
}


def _all(names: Names) -> Names:
    """The other names of every setting that a grid may give."""
    return {name: names.get(name, ()) for name, one in RunConfig.declared.items() if one.in_grids}


# What an unknown key may be elsewhere, in the order in which it is looked up.
_PLACES: dict[str, tuple[Names, str]] = {
    "grid": (GRID_KEYS, "is a key of the whole grid, so it begins a line without indentation"),
    "settings": (_all(SETTINGS), "is a setting, so it belongs under fixed or sweep"),
    "resources": (RESOURCES, "belongs in the grid, under resources"),
    "site": (SITE, "belongs in the site profile, which is given with --site"),
    "options": (OPTIONS, "is an option of submit and no key"),
}


def unknown_key(word: str, place: str, allowed: Sequence[str]) -> str:
    """The message about a key that does not exist. place: grid, settings, resources or site."""
    return f"unknown key {short(repr(word), 100)}{meant(word, place, allowed)}; allowed: {', '.join(allowed)}"


def meant(word: str, place: str, allowed: Iterable[str]) -> str:
    """What a person means by a key that a place does not have: `; did you mean "k"?` or where it belongs."""
    plain = _plain(word)
    own, _ = _PLACES[place]
    if found := [key for key, others in own.items() if plain == key or plain in others]:
        if found == ["extra"]:
            return f"; an option of sbatch is given under extra: {{{word.strip()}: ...}}"
        return f"; did you mean {' or '.join(map(_with_meaning, found))}?"
    for other, (names, belongs) in _PLACES.items():
        found = [key for key, others in names.items() if plain in (key, _plain(key)) or plain in others]
        if other != place and found and not (other == "options" and len(plain) < 3):
            return f"; {found[0]} {belongs}"
    return did_you_mean(word, allowed)


def value_meant(word: str, allowed: Iterable[str]) -> str:
    """What a person means by a base, a protocol or a data set that does not exist: `; did you mean "fmnist"?`."""
    words, plain = tuple(allowed), re.sub(r"[^a-z0-9]", "", word.lower())
    for name, one in DATASETS.items():
        titles = (one.title, one.torchvision, name, f"{one.title} dataset")
        if name in words and plain in {re.sub(r"[^a-z0-9]", "", title.lower()) for title in titles}:
            return f'; did you mean "{name}"?'
    near = [name for name, others in PROTOCOLS.items() if name in words and plain in others]
    return f'; did you mean "{near[0]}"?' if near else did_you_mean(word, words)


def option_meant(name: str, flags: Sequence[str]) -> str:
    """What a person means by an option `--name` that a command with these flags does not have; nothing if unknown."""
    plain = _plain(name)
    for flag, others in OPTIONS.items():
        if flag in flags and plain in others:
            return f"; did you mean {flag}?"
    for key, others in _PLACES["settings"][0].items():
        if "--set" in flags and plain in (key, *others):
            return f"; {key} is a setting, which is given with --set {key}=VALUE"
    for names, place in ((RESOURCES, "of the grid, under resources"), (SITE, "of the site profile, see --site")):
        for key, others in names.items():
            if "--site" in flags and plain in (key, *others):
                return f"; {key} is a key {place}"
    return ""


def _with_meaning(key: str) -> str:
    one = RunConfig.declared.get(key)
    return f'"{key}"' + (f" ({one.meaning})" if one else "")


def _plain(word: str) -> str:
    return word.strip().strip("-").lower().replace("-", "_").replace(" ", "_")
