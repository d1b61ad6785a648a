"""Command that decodes a data set once: `python -m intrinsic_lr.commands.prepare_data --help`."""

import argparse
import json

from intrinsic_lr.core.errors import InputError, run_command
from intrinsic_lr.data import dataset as data


def main() -> None:
    """Read the command line, write the data file and its description, and say what they hold."""
    parser = argparse.ArgumentParser(description="Decode a data set into one file of uint8 images.")
    parser.add_argument("--name", required=True, help="name of the data set in the config")
    parser.add_argument("--spec", required=True, help="its definition in the config, as JSON")
    parser.add_argument("--data", required=True, help="the .safetensors file to write")
    parser.add_argument("--info", required=True, help="the .json description to write")
    arguments = parser.parse_args()
    try:
        spec = json.loads(arguments.spec)
    except ValueError as error:
        raise InputError(f"--spec: found {arguments.spec!r}, which is not JSON ({error})") from None
    info = data.write(spec, arguments.name, arguments.data, arguments.info)
    print(
        f"{info['name']}: {info['train_count']} training and {info['test_count']} test images of shape "
        f"{'x'.join(map(str, info['shape']))} in {len(info['classes'])} classes"
    )


if __name__ == "__main__":
    run_command(main)
