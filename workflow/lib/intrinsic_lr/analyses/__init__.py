"""What is computed and drawn of an experiment's trained ensembles.

A new analysis is a module here and its line in `intrinsic_lr.study.analyses`. The module has two functions, which
import torch themselves where they need it:

    def measure(data: AnalysisData) -> dict[str, pd.DataFrame]
        # tidy tables by name; columns that name a point come from `with_point`

    def draw(tables: Mapping[str, pd.DataFrame], experiment: Experiment, look: Look) -> dict[str, Figure]
        # figures by name, from the tables that the registry names

Its results are then `results/tables/<table>_<experiment>.csv` and `results/figures/<figure>_<experiment>.svg`.
"""
