# syntax=docker/dockerfile:1
# Training, and every other command. TORCH=cuda has the GPU libraries (6 GB), TORCH=cpu is for machines without a GPU.
#
#   docker build -f docker/train.Dockerfile -t landuse-train --build-arg TORCH=cpu --build-arg GIT_COMMIT=$(git rev-parse HEAD) .
#   mkdir -p data outputs
#   docker run --rm --user "$(id -u):0" -v "$PWD/data:/work/data" -v "$PWD/outputs:/work/outputs" landuse-train model=cnn
#   docker run --rm --gpus all ... landuse-train train experiment=ucmerced_scratch hardware=cuda
#
# What follows the image's name is a command with overrides, or overrides of train. Read-only: --read-only --tmpfs /tmp.
ARG BASE_IMAGE=python:3.13.16-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG UV_VERSION=0.13.9
ARG TORCH=cuda
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_HTTP_TIMEOUT=600
WORKDIR /build
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv && /opt/uv/bin/pip install "uv==${UV_VERSION}"
# Three layers, by how seldom they change: torch, the other dependencies, the package.
COPY docker/locks/torch-${TORCH}.lock ./
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv --without-pip /opt/venv \
    && /opt/uv/bin/uv pip install --python /opt/venv --target /opt/torch --no-deps -r "torch-${TORCH}.lock"
COPY docker/locks/train.lock ./
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip install --python /opt/venv --no-deps --require-hashes -r train.lock
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY conf conf
COPY sweeps sweeps
COPY src src
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip install --python /opt/venv --target /opt/landuse/src --no-deps \
        --build-constraint requirements.lock .

FROM ${BASE_IMAGE}
# torch.compile builds its kernels with a compiler. Group 0 may write, for users that the cluster makes up.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --gid 0 --no-create-home --home-dir /tmp landuse \
    && install -d -o 10001 -g 0 -m 775 /work /work/data /work/outputs
COPY --from=build /opt/torch /opt/torch
COPY --from=build /opt/venv /opt/venv
COPY requirements.lock /opt/landuse/
COPY --from=build /opt/landuse/src /opt/landuse/src
# /work/data, /work/outputs and HOME are what is written.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/landuse/src:/opt/torch PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp USER=landuse LANDUSE_COMMAND=train
WORKDIR /work
USER 10001
# A training ends by itself and says how by its status: there is nothing to ask it while it runs.
HEALTHCHECK NONE
# Last, for it changes with each commit, and layers behind it would be made anew. Runs say that they were made by it.
ARG GIT_COMMIT=
ENV LANDUSE_GIT_COMMIT=${GIT_COMMIT}
LABEL org.opencontainers.image.title="landuse-train" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
ENTRYPOINT ["python3", "-m", "landuse"]
