"""Files of own images that published runs of earlier versions name by the digest of the whole file.

Those runs say `data_digest`, which covers both parts at once. The parts are written down here, so that tables group
such a run with later ones: its Initial Alignment with all that have the same training part, its accuracy with those of
the same test part. `test_images` says how many images that accuracy is of.
"""

from __future__ import annotations

from dataclasses import dataclass

from dc_hpc.data.digests import PartDigests


@dataclass(frozen=True)
class KnownFile:
    """The parts of a file, as `part_digests` has them, and the number of its test images."""

    digests: PartDigests
    test_images: int


# SHA-256 of the file -> its parts.
KNOWN_FILES = {
    # svhn-derived.npz of the first release: the training digits of the later file, and the first 1,952 of its 26,032
    # test digits (docs/FIDELITY.md, Data)
    "f1a09205f59b55a9211c884bc035181acecc6e46e6e46eb1fe5e000d46464856": KnownFile(
        PartDigests(
            train="25c6a78e77362c824f9ba1447a9c095e3b400497e657c4acbb025eb3fc4ecc4d",
            test="d4ac0db78f050c33ee1a32ae570c9a2a24edb26fd62167d8376f5c7ce662aefd",
        ),
        test_images=1_952,
    ),
}
