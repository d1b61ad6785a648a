"""What readers need of the workflow's JSON records, with its types; the records hold more."""

from typing import Any

from pydantic import BaseModel, Field


class DataRecord(BaseModel):
    """The description of a prepared data set."""

    name: str
    classes: list[str] = Field(min_length=1)
    sha256: str
    mean: list[float] = Field(min_length=1)
    std: list[float] = Field(min_length=1)


class CountedDataRecord(DataRecord):
    """The same with the sizes that are told to a reader."""

    shape: list[int]
    train_count: int
    test_count: int


class _TrainedOn(BaseModel):
    name: str
    shape: list[int]
    classes: int
    sha256: str


class TrainingRecord(BaseModel):
    """`run.json`, as far as its results are read by it."""

    plan: dict[str, Any]
    data: _TrainedOn
    sha256: dict[str, str]


class ProvenanceRecord(TrainingRecord):
    """`run.json` with what is told of how it came about."""

    seeds: list[dict[str, int]]
    non_finite: dict[str, int]
    finished: str
    wall_seconds: float
    device: str
    processor: str = ""
    kernels: str = ""
    instructions: str = ""
    threads: int
    versions: dict[str, str]
    git_commit: str | None
    training_version: int


class ExtractRecord(BaseModel):
    """`extract.json`."""

    checkpoints: dict[str, str]
    sha256: dict[str, str]
