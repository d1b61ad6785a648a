"""The files in a block's folder, and the names of the tensors in them."""

CHECKPOINTS, HISTORY, TRACE, RUN = "checkpoints.safetensors", "history.parquet", "trace.parquet", "run.json"
PREDICTIONS, STATISTICS, EXTRACT = "predictions.safetensors", "statistics.safetensors", "extract.json"


def key(step: int, name: str) -> str:
    """Return the name of a tensor in a file of checkpoints, predictions or statistics."""
    return f"{step:08d}/{name}"
