"""What is claimed: the statement of each claim, where it is from, and what its test needs from the config.

Read by every job of the workflow, so nothing here imports torch, pandas or numpy. A claim is named as its module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

PAPER = "Li, Lyu, Arora 2020 (arXiv:2010.02916)"
BLOG = "Arora, Li, Lyu 2020, Off the Convex Path, 21 October"
EXP_LR = "Li, Arora 2020 (arXiv:1910.07454)"


@dataclass(frozen=True)
class Claim:
    """One claim of the study.

    Attributes:
        statement: what is claimed, one sentence.
        source: paper, section or equation, or `derived`.
        experiments: for each role that an experiment of the config plays, what it has to hold.
        files: which files of each point's blocks the test reads: `history`, `trace`, `checkpoints`, `predictions`.
        reads_data: whether the test reads the data sets of its experiments, or of its setting `dataset`.
        thresholds: for each number that decides, what it means.
        settings: for each other setting, what it means: a number, a list of numbers, a name or a list of names.
    """

    statement: str
    source: str
    experiments: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    reads_data: bool = False
    thresholds: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


CLAIMS: dict[str, Claim] = {
    # The symmetry of the loss, and what follows from it exactly.
    "scale_invariance": Claim(
        statement="The loss of a normalised network with a fixed head does not depend on the norm of its weights.",
        source=f"{PAPER}, section 1; derived (F1)",
    ),
    "nonsmooth_origin": Claim(
        statement="The loss gets ever less smooth towards the origin: its curvature grows like 1/||w||^2.",
        source=f"{PAPER}, section 1; derived (F1)",
    ),
    "fixed_head_costs_nothing": Claim(
        statement="Fixing the last linear layer at its random initialisation costs no test accuracy.",
        source=BLOG,
    ),
    "norm_recursion": Claim(
        statement="The norm follows R' = (1 - lambda_e)^2 R + eta^2 ||g^||^2 / R exactly, step by step.",
        source="derived (F6)",
    ),
    "exp_lr_equivalence": Claim(
        statement="Weight decay, or an exponentially growing learning rate without it, give the same functions.",
        source=f"{EXP_LR}, theorems 2.1 and 2.2",
    ),
    "rescaling_equivalence": Claim(
        statement="At equal intrinsic learning rate another learning rate only rescales the initialisation.",
        source=f"{PAPER}, section 1; derived (F9)",
    ),
    # Full-batch descent, and what learning rate generalisation needs.
    "gd_toy": Claim(
        statement="On L = x^2/(x^2+y^2) descent with weight decay ends near lambda_e/2 at every learning rate.",
        source="derived (F13)",
    ),
    "gd_never_settles": Claim(
        statement="Full-batch descent with weight decay never settles, at any learning rate; without it, it does.",
        source=BLOG,
    ),
    "early_stopping_needed": Claim(
        statement="The best training loss of a run is far below the one it ends at.",
        source=BLOG,
    ),
    "small_lr_generalises": Claim(
        statement="A hundred times smaller initial learning rate generalises as well, given more steps.",
        source=BLOG,
    ),
    # Weight space.
    "swa_within": Claim(
        statement="Averaging two checkpoints of a trajectory lowers the test loss, long after the usual run time.",
        source=BLOG,
    ),
    "swa_across": Claim(
        statement="Averaging the weights of two initialisations does not help.",
        source=BLOG,
    ),
    "distance_grows": Claim(
        statement="The distance between two checkpoints of a trajectory keeps growing with their lag.",
        source=BLOG,
    ),
    "no_mixing_in_weights": Claim(
        statement="Where function space has mixed, weights of two initialisations still lie apart.",
        source=f"{PAPER}, section 1; {BLOG}",
    ),
    # The equilibrium of norm and effective learning rate.
    "norm_equilibrium": Claim(
        statement="The effective learning rate relaxes to sqrt(2 lambda_e / E||g^||^2) at the rate 4 lambda_e.",
        source=f"{PAPER}, equation of gamma (F4, F5)",
    ),
    "lr_decay_response": Claim(
        statement="After a decay of the learning rate the effective one drops at once, then climbs to a new rest.",
        source=f"{PAPER}, equation of gamma; derived (F8)",
    ),
    "random_pasts": Claim(
        statement="Runs of different random pasts coincide once they share learning rate and weight decay.",
        source=f"{PAPER}, figure on CIFAR-10 with random schedules",
    ),
    "noise_anisotropy": Claim(
        statement="At equilibrium the gradient noise lies in few directions, far from isotropic.",
        source=f"{PAPER}, the SDE's covariance Sigma; Malladi et al. 2021",
    ),
    "linear_scaling": Claim(
        statement="A k times larger batch and learning rate give the same curve while lambda_e is small.",
        source=f"{PAPER}, SDE view (F2); Goyal et al. 2017",
    ),
    # Function space.
    "equilibrium_time": Claim(
        statement="The time to equilibrium is inversely proportional to the intrinsic learning rate.",
        source=f"{PAPER}, abstract; {BLOG}",
    ),
    "function_space_mixing": Claim(
        statement="In function space SGD forgets its initialisation within O(1/lambda_e) steps.",
        source=f"{PAPER}, abstract; {BLOG}",
    ),
    "schedules_same_equilibrium": Claim(
        statement="Schedules that meet at one intrinsic learning rate reach one distribution of predictions.",
        source=f"{BLOG}, MNIST figure",
    ),
}
