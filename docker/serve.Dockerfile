# syntax=docker/dockerfile:1
# The service, without torch. It serves the exported folder that is mounted at /model (landuse.export writes them):
#
#   docker build -f docker/serve.Dockerfile -t landuse-serve --build-arg GIT_COMMIT=$(git rev-parse HEAD) .
#   docker run --rm -p 8000:8000 -v "$PWD/outputs/latest/export/int8:/model:ro" --read-only --tmpfs /tmp landuse-serve
#
# What follows the image's name are overrides of landuse.serve, or another command that needs no torch, with overrides.
ARG BASE_IMAGE=python:3.13.16-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG UV_VERSION=0.13.9
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
WORKDIR /build
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv && /opt/uv/bin/pip install "uv==${UV_VERSION}"
# Dependencies change seldom and are a layer of their own; the package follows.
COPY docker/locks/serve.lock ./
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv --without-pip /opt/venv \
    && /opt/uv/bin/uv pip install --python /opt/venv --require-hashes -r serve.lock
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY conf conf
COPY sweeps sweeps
COPY src src
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip install --python /opt/venv --target /opt/landuse --no-deps --build-constraint requirements.lock .

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /tmp landuse
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/landuse /opt/landuse
# HOME is the one place that may be written.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/landuse PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp USER=landuse PORT=8000 \
    LANDUSE_COMMAND="serve run=/model serve.host=0.0.0.0"
WORKDIR /tmp
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=4)"]
# Last, for it changes with each commit, and layers behind it would be made anew.
ARG GIT_COMMIT=
ENV LANDUSE_GIT_COMMIT=${GIT_COMMIT}
LABEL org.opencontainers.image.title="landuse-serve" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
ENTRYPOINT ["python3", "-m", "landuse"]
