"""The files in a block's folder: what a training writes, and what `extract` adds."""

RUN, HISTORY, TRACE, EXTRACT = "run.json", "history.parquet", "trace.parquet", "extract.json"
CHECKPOINTS, PREDICTIONS, STATISTICS = "checkpoints", "predictions", "statistics"
"""Folders with a file for each checkpoint."""
RESUME = "resume"
"""Folder of a training that has not ended: its state, and the checkpoints so far."""
ASIDE = "aside"
"""Folder of the same, while a shorter or longer training of the block is done first."""
KEPT = "kept"
"""Folder of the same of a training that has ended, with its record: a longer one goes on from there."""
OTHERS = "others"
"""Folder with such a folder for each other training that had this place, by a config that says otherwise."""
STATE = "state"
"""File of the state, in any of these folders."""


def step_file(folder: str, step: int) -> str:
    """Return the path, in the block's folder, of what one of its folders holds of a step."""
    return f"{folder}/{step:08d}.safetensors"
