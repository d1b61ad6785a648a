"""Command line: compare the verdicts of a study that was run in several folders, such as with other seeds.

`make stability` runs the study with several seeds and calls it.
"""

from pathlib import Path

from intrinsic_lr.analyses.tables import read_table, write_table
from intrinsic_lr.claims.shared.stability import most_frequent, stability_figure, stability_table
from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.paths import SEEDS
from intrinsic_lr.figures.style import Look, save
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.study import Study


def main(argv: list[str] | None = None) -> None:
    """Compare the scorecards of several folders; write a table and a figure, print what is most frequent."""
    parser = Parser("stability", __doc__)
    parser.add_config()
    parser.add_argument("--folders", type=Path, nargs="+", required=True, help="in which the study was run")
    given = parser.parse_args(argv)
    study = Study.read(merge_files(given.config), Path("results"))
    files = {folder.name: folder / study.paths.scorecard for folder in given.folders}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise InputError(f"--folders: expected the verdicts of this study in each, got none in {missing[0]}")
    table = stability_table({label: read_table(file) for label, file in files.items()})
    out = "/".join([SEEDS, "_".join(["stability", *Path(study.paths.folder).parts[1:]])])
    write_table(table, f"{out}.csv")
    look = Look.read(study.look)
    save(stability_figure(table, look=look), [f"{out}.{kind}" for kind in study.formats], look)
    for row in most_frequent(table).itertuples():
        print(f"{row.claim:30}{row.verdict:16}{row.times} of {row.of}")
    print(f"== done: {out}.csv, {out}.{study.formats[0]}")
