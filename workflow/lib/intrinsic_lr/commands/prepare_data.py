"""Command line: decode a data set once into one file of uint8 images."""

import json

from pydantic import TypeAdapter

from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import dataset as data
from intrinsic_lr.study.config_types import validate
from intrinsic_lr.study.schema import Dataset


def main(argv: list[str] | None = None) -> None:
    """Write the data file and its description, and say what they hold."""
    parser = Parser("prepare", __doc__)
    parser.add_argument("--name", required=True, help="name of the data set in the config")
    parser.add_argument("--spec", required=True, help="its definition in the config, as JSON")
    parser.add_argument("--data", required=True, help="the .safetensors file to write")
    parser.add_argument("--info", required=True, help="the .json description to write")
    arguments = parser.parse_args(argv)
    try:
        spec = json.loads(arguments.spec)
    except ValueError as error:
        raise InputError(f"--spec: expected JSON, got {arguments.spec!r} ({error})") from None
    # The workflow adds a checksum of the images in a folder, which changes with them.
    images = spec.pop("images", None) if isinstance(spec, dict) else None
    validate(TypeAdapter(Dataset), spec, f"config: datasets.{arguments.name}")
    info = data.write(spec, arguments.name, arguments.data, arguments.info, images)
    shape = "x".join(map(str, info["shape"]))
    print(
        f"{info['name']}: {info['train_count']} training and {info['test_count']} test images of shape {shape} "
        f"in {len(info['classes'])} classes"
    )
