"""The stages and networks by name, for a door that answers --help without torch."""

STAGES = ("views", "sampling", "forward", "pca", "kmeans_init", "kmeans_torch", "kmeans_faiss", "kmeans_sklearn",
          "agreement", "train", "probe", "checkpoint", "dump")  # fmt: skip
NETWORKS = ("lenet5", "alexnet_small", "alexnet")
SIZES = ("quick", "default", "full")
