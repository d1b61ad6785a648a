"""What is computed and drawn of an experiment's trained ensembles.

A new analysis is a module here and its line in `intrinsic_lr.study.analyses`. The module has a function that
measures, and one for each figure that draws it. They import torch themselves where they need it:

    def measure(data: AnalysisData) -> dict[str, pd.DataFrame]
        # tidy tables by name; columns that name a point come from `with_point`

    @styled
    def draw_<figure>(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure
        # from the table that the registry names; points that differ in any axis are told apart, never averaged

Its results are then `results/tables/<table>_<experiment>.csv` and `results/figures/<figure>_<experiment>.svg`.
"""
