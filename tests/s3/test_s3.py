"""The smoke workflow with all its files in a bucket of a server on loopback gives the tables of a local run.

Run by `make test-s3`; see docs/cluster.md.
"""

import socket
from pathlib import Path

import pytest

from projects import new_project, run

pytestmark = pytest.mark.s3

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
KEYS |= {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "key", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "secret"}


@pytest.fixture
def bucket():
    """An empty bucket: the address of its server, and the bucket as boto3 sees it."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    address = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    yield (
        address,
        boto3.resource("s3", endpoint_url=address, region_name="us-east-1", **keys).create_bucket(Bucket="bucket"),
    )
    server.stop()


def test_results_in_a_bucket_are_those_of_a_local_run(tmp_path, bucket):
    address, content = bucket
    away, here = new_project(tmp_path / "away"), new_project(tmp_path / "here")
    storage = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket/study"]
    storage += ["--storage-s3-endpoint-url", address]
    run(away, "tables", *storage, **KEYS)
    run(here, "tables", **KEYS)
    expected = {path.name: path.read_bytes() for path in (here / "results/smoke/tables").iterdir()}
    found = {
        Path(entry.key).name: entry.get()["Body"].read()
        for entry in content.objects.filter(Prefix="study/results/smoke/tables/")
    }
    assert found == expected
    assert not list(away.glob("results/smoke/tables/*"))
    assert "Nothing to be done" in run(away, "tables", *storage, **KEYS)
