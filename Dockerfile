# An image with the workflow and its environment, made from the lock in envs/. docs/cluster.md says how to use it.
#   docker build --tag intrinsic-lr .
#   docker run --rm --volume intrinsic-lr:/study/results intrinsic-lr results
FROM python:3.11-slim

# The compiled kernels need gcc; what Debian has of both need not be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*

# More locks come on top, such as requirements-s3.txt for Kubernetes (--build-arg LOCKS=...).
ARG LOCKS="requirements.txt"

WORKDIR /study
ENV PATH=/study/.venv/bin:$PATH PYTHONUNBUFFERED=1
COPY envs envs
RUN python -m venv .venv \
    && for lock in $LOCKS; do pip install --no-cache-dir --require-hashes --requirement "envs/$lock" || exit 1; done

COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && touch .venv/runtime.stamp \
    && useradd --create-home --uid 1000 study \
    && mkdir --parents results .snakemake \
    && chown study: . results .snakemake

USER 1000
ENTRYPOINT ["make"]
CMD ["results"]
