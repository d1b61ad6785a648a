import tarfile
import tempfile

# Snakemake keeps a bare clone of a workflow that a `module:` names on a git host, and reads Snakefiles and scripts from
# it. The default config, the captions and what checksums are made of are read from files, which lie beside the clone.
BASE = workflow.current_basedir.get_basedir()
CLONE = BASE.hosted_repo
COMMIT = CLONE.repo.commit(BASE.ref).hexsha
CHECKOUT = CLONE.repo_clone.with_name(f"{CLONE.repo_clone.name}.{COMMIT}")

if not CHECKOUT.exists():
    with tempfile.TemporaryDirectory(dir=CHECKOUT.parent) as folder:
        archive, files = Path(folder, "archive.tar"), Path(folder, "files")
        CLONE.repo.git.archive(COMMIT, output=str(archive))
        with tarfile.open(archive) as packed:
            packed.extractall(files, filter="data")
        try:
            files.rename(CHECKOUT)
        except OSError:
            # Another job was first.
            if not CHECKOUT.exists():
                raise

ROOT = (CHECKOUT / BASE.path).parent
