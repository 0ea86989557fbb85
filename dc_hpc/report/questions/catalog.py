"""The panels of our questions, as data: which runs, which grids, what was known, what is asked.

`questions.plans` has the planned seeds. The entries whose names begin with `beyond` are those of docs/BEYOND.md.
"""

from __future__ import annotations

from dc_hpc.report.claims.rules import Window, above
from dc_hpc.report.panels.panel import Entry, entry
from dc_hpc.report.questions.arms import ALWAYS, ONCE, ORACLE, OTHER_NET, ArmsPanel, arm_difference, arm_saves
from dc_hpc.report.questions.choosing import ChoosingPanel, predicts
from dc_hpc.report.questions.gain import GainPanel
from dc_hpc.report.questions.halts import HaltsPanel
from dc_hpc.report.questions.question import Question
from dc_hpc.report.questions.valley_arms import ValleyArmsPanel

_RHO, _MEAN_RHO = "Spearman's rho over runs", "mean rho within seeds"
_POINTS, _SHARE = "mean difference, points", "mean share of the clusterings saved"
# over -> what is told there, and by which measures: with labels, and without. The first clustering's effective rank is
# the same for every k.
_IA, _RANK, _SILHOUETTE = ("ami_true", "IA"), ("effective_rank", "the effective rank"), ("silhouette", "the silhouette")
_ASKED = {
    "seeds": ("the better seed", (_IA, _RANK)),
    "k": ("the better k", (_IA, _SILHOUETTE)),
    "k, trained": ("the better k after training", (_RANK,)),
    "cycles": ("the better halting position", (_IA, _RANK)),
}
# No worse by a point: what the paper calls "approximately one degree" is the smallest difference that it speaks of.
_NO_WORSE = above(-1)


def _choosing(k: int, *overs: str) -> tuple[Question, ...]:
    """k: the paper's, at which the seeds and the halting positions are chosen."""
    return tuple(
        Question(
            f"{'ia' if column == 'ami_true' else column}_{over.replace(', ', '_')}",
            f"{title} tells {_ASKED[over][0]}{'' if over.startswith('k') else f' at k {k}'}",
            _RHO if over == "seeds" else _MEAN_RHO,
            predicts(column, over, None if over.startswith("k") else k),
            digits=3,
        )
        for over in overs
        for column, title in _ASKED[over][1]
    )


def _halting(rule: str) -> tuple[Question, ...]:
    arm = f"rule {rule}" + (", tolerance 0.01" if rule == "plateau" else "")
    return (
        Question(f"{rule}_always", f"halting by {rule} is no worse than clustering always by a point", _POINTS,
                 arm_difference(arm, ALWAYS), _NO_WORSE),
        Question(f"{rule}_once", f"halting by {rule} is no worse than clustering once by a point", _POINTS,
                 arm_difference(arm, ONCE), _NO_WORSE),
        Question(f"{rule}_oracle", f"halting by {rule} is no worse than the oracle by a point", _POINTS,
                 arm_difference(arm, ORACLE), _NO_WORSE),
        Question(f"{rule}_saves", f"halting by {rule} saves more than half of the clusterings", _SHARE,
                 arm_saves(arm), above(0.5), digits=3),
    )  # fmt: skip


_RESETS = (
    Question("reset_always", "soft resets of .2 raise the accuracy of clustering always", _POINTS,
             arm_difference("soft reset 0.2", ALWAYS)),
    Question("reset_once", "with soft resets of .2, clustering always is no worse than clustering once by a point",
             _POINTS, arm_difference("soft reset 0.2", ONCE), _NO_WORSE),
)  # fmt: skip
_OWN_NET = Question(
    "own_net", "the labels of another net are as good as those of the own one, within a point", _POINTS,
    arm_difference(OTHER_NET, ONCE), Window(-1, 1),
)  # fmt: skip

_ARMS = ("training_view", "pca", "lr", "per_image_standardization", "sobel")
_HALTS = (1, 2, 5, 10, 20, None)  # of beyond_halting_fmnist
_LAYERS = ("relu1", "relu2", "relu3", "relu4", "relu5", "fc1", "fc2")
_IA_SAYS = (
    "The paper sees accuracy rise with IA. A net that is better before any training has a higher IA, too, so that "
    "accuracy alone does not tell what clustering adds."
)

QUESTIONS: tuple[Entry, ...] = (
    entry("valley_arms", "What makes the valley", "ours", (
        ValleyArmsPanel("valley_arms", "svhn",
            "Not in the paper. Each arm changes one setting of the base, which is the authors' program of 2022 with k "
            "500; seeds are paired.",
            axis=_ARMS, fixed={"k": 500, "cycles": 4}, grids=("svhn_valley",),
            arms=("training_view flip", "training_view none", "pca 32", "pca off", "lr 0.01",
                  "per_image_standardization on", "sobel fixed")),
    ), short="Valley, arms"),
    entry("valley_halts", "Halting before the valley and inside it, 20 cycles", "ours", (
        HaltsPanel("valley_halts", "svhn",
            "The paper's runs have 100 cycles, in which a net may leave the valley again (Figure 5b). The true Sobel "
            "filter is the arm of the question before with the highest accuracy.",
            axis=("halt_cycle",), values=(1, 4, None), fixed={"k": 500, "cycles": 20}, grids=("svhn_valley_20",),
            halts=((1, None), (4, None)), settings={"sobel": (("fixed", "random"),)}),
    ), short="Valley, halts"),
    entry("ia_layers", "Initial Alignment against the gain over one's own untrained net", "ours", (
        GainPanel("ia_layers_fixed", "svhn", _IA_SAYS, layers=_LAYERS,
            fixed={"sobel": "fixed", "halt_cycle": 1, "cycles": 20}, grids=("svhn_ia_layers",)),
        GainPanel("ia_layers_random", "svhn", f"{_IA_SAYS} Random grey filters that keep a luminance above .3.",
            layers=_LAYERS, fixed={"sobel": "random", "halt_cycle": 1, "cycles": 20}, grids=("svhn_ia_layers_random",),
            least_luminance=0.3),
    ), short="IA and gain"),
    entry("views", "Training views by halt", "ours", (
        HaltsPanel("views_fmnist", "fmnist",
            "The paper's text mirrors the clustering view; its authors' program cuts a box, of each image until early "
            "2021, of a whole batch later.",
            axis=("halt_cycle",), values=(1, None), grids=("fmnist_views",), halts=((1, None),),
            settings={"training_view": (("box_per_image", "box_per_batch"), ("box_per_batch", "none"),
                                        ("box_per_image", "none"))}),
    ), short="Views"),
    entry("beyond_choosing", "Choosing without labels: which measure predicts accuracy", "ours", (
        ChoosingPanel("beyond_choosing_fmnist", "fmnist",
              "The paper chooses by Initial Alignment, which needs the labels.",
              values=(5, 10, 20, 200), axis=("k",), free=("halt_cycle",), halts=_HALTS,
              grids=("beyond_choosing_fmnist", "beyond_halting_fmnist"),
              questions=_choosing(5, "seeds", "k", "k, trained", "cycles")),
        ChoosingPanel("beyond_choosing_svhn", "svhn",
              "The paper chooses by Initial Alignment, which needs the labels.",
              values=(10, 50, 200, 500), fixed={"cycles": 20}, axis=("k",), free=("halt_cycle",),
              grids=("beyond_choosing_svhn",), questions=_choosing(200, "seeds", "k", "k, trained")),
    ), short="Choosing"),
    entry("beyond_halting", "Halting without labels: rules beside halting after so many clusterings", "ours", (
        ArmsPanel("beyond_halting_fmnist", "fmnist",
              "The paper halts after a number of clusterings that is chosen beforehand.",
              values=(5, 200), axis=("k",), free=("halt_cycle", "halt_rule", "halt_patience", "halt_tolerance"),
              differs=("halt_cycle", "halt_rule", "halt_patience", "halt_tolerance"), halts=_HALTS, oracle=True,
              grids=("beyond_halting_fmnist",), questions=(*_halting("effective_rank"), *_halting("plateau"))),
    ), short="Halting"),
    entry("beyond_reset", "Soft resets at each clustering", "ours", (
        ArmsPanel("beyond_reset_fmnist", "fmnist",
              "Not in the paper. arXiv 2411.02275 resets by .2 every 20 epochs.",
              values=(5, 200), axis=("k",), free=("halt_cycle", "soft_reset"), differs=("halt_cycle", "soft_reset"),
              halts=(1, None), grids=("beyond_reset_fmnist",), questions=_RESETS),
        ArmsPanel("beyond_reset_svhn", "svhn",
              "Not in the paper. arXiv 2411.02275 resets by .2 every 20 epochs.",
              values=(200,), fixed={"cycles": 20}, axis=("k",), free=("halt_cycle", "soft_reset"),
              differs=("halt_cycle", "soft_reset"), halts=(1, None), grids=("beyond_reset_svhn",), questions=_RESETS),
    ), short="Soft resets"),
    entry("beyond_teacher", "Labels of another seed's random net", "ours", (
        ArmsPanel("beyond_teacher_fmnist", "fmnist",
              "Not in the paper. arXiv 2302.12091 finds that random teachers are good teachers.",
              values=(5, 200), axis=("k",), free=("halt_cycle", "teacher_seed"), differs=("halt_cycle", "teacher_seed"),
              reference=ONCE, halts=(1,), grids=("beyond_teacher_fmnist",), questions=(_OWN_NET,)),
    ), short="Another teacher"),
)  # fmt: skip
