"""The questions of ours, as data: which runs answer them. `claims.question_plans` has their planned seeds."""

from __future__ import annotations

from typing import NamedTuple

from dc_hpc.report.panels.panel import Panel
from dc_hpc.report.questions.gain import GainPanel
from dc_hpc.report.questions.halts import HaltsPanel
from dc_hpc.report.questions.valley_arms import ValleyArmsPanel


class QuestionEntry(NamedTuple):
    """What `panels.paper` makes an entry of the report from."""

    name: str
    title: str
    short: str
    panels: tuple[Panel, ...]


_ARMS = ("training_view", "pca", "lr", "per_image_standardization", "sobel")
_IA_SAYS = (
    "The paper sees accuracy rise with IA. A net that is better before any training has a higher IA, too, so that "
    "accuracy alone does not tell what clustering adds."
)

QUESTIONS: tuple[QuestionEntry, ...] = (
    QuestionEntry("valley_arms", "What makes the valley", "Valley, arms", (
        ValleyArmsPanel("valley_arms", "svhn",
            "Not in the paper. Each arm changes one setting of the base, which is the authors' program of 2022 with k "
            "500; seeds are paired.",
            axis=_ARMS, fixed={"k": 500, "cycles": 4}, grids=("svhn_valley",)),
    )),
    QuestionEntry("valley_halts", "Halting before the valley and inside it, 20 cycles", "Valley, halts", (
        HaltsPanel("valley_halts", "svhn",
            "The paper's runs have 100 cycles, in which a net may leave the valley again (Figure 5b).",
            axis=("halt_cycle",), values=(1, 4, None), fixed={"k": 500, "cycles": 20},
            free=("pca", "lr", "per_image_standardization"), grids=("svhn_valley_20",),
            halts=((1, None), (4, None))),
    )),
    QuestionEntry("ia_layers", "Initial Alignment against the gain over one's own untrained net", "IA and gain", (
        GainPanel("ia_layers_fixed", "svhn", _IA_SAYS,
            fixed={"sobel": "fixed", "halt_cycle": 1, "cycles": 20}, grids=("svhn_ia_layers",)),
        GainPanel("ia_layers_random", "svhn", f"{_IA_SAYS} Random grey filters that keep a luminance above .3.",
            fixed={"sobel": "random", "halt_cycle": 1, "cycles": 20}, grids=("svhn_ia_layers_random",),
            least_luminance=0.3),
    )),
    QuestionEntry("views", "Training views by halt", "Views", (
        HaltsPanel("views_fmnist", "fmnist",
            "The paper's text mirrors the clustering view; its authors' program cuts a box, of each image until early "
            "2021, of a whole batch later.",
            axis=("halt_cycle",), values=(1, None), grids=("fmnist_views",), halts=((1, None),),
            settings={"training_view": (("box_per_image", "box_per_batch"), ("box_per_batch", "none"),
                                        ("box_per_image", "none"))}),
    )),
)  # fmt: skip
