"""Names the stages, networks and sizes of the benchmark without torch, so that `bench --help` answers at once."""

STAGES = (
    "views",
    "sampling",
    "forward",
    "pca",
    "kmeans_init",
    "kmeans_torch",
    "kmeans_faiss",
    "kmeans_sklearn",
    "agreement",
    "train",
    "probe",
    "checkpoint",
    "dump",
)
NETWORKS = ("lenet5", "alexnet_small", "alexnet")
SIZES = ("quick", "default", "full")

# bench --scaling: the values of each variable, and the stages that are timed against it.
SCALING_VALUES: dict[str, dict[str, tuple[int, ...]]] = {
    "default": {"n": (10_000, 30_000, 120_000, 480_000), "k": (5, 50, 500, 5_000), "runs": (1, 2, 4, 8)},
    "quick": {"n": (2_000, 4_000, 8_000), "k": (5, 50), "runs": (1, 2)},
}
SCALING_STAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "default": {"n": ("views", "sampling", "forward", "pca", "kmeans_init", "kmeans_torch", "agreement", "train",
                      "probe", "dump"),
                "k": ("sampling", "kmeans_init", "kmeans_torch", "agreement", "train"), "runs": ("run",)},
    "quick": {"n": ("kmeans_torch", "agreement"), "k": ("kmeans_torch",), "runs": ("run",)},
}  # fmt: skip
SCALING_IMAGES = {"default": 20_000, "quick": 2_000}  # the number of images and points where k varies
