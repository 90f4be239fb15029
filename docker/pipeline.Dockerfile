# syntax=docker/dockerfile:1
# The DVC pipeline: the training image with git, DVC's entry point, and a copy of what `dvc repro` needs of the repository.
#
#   docker build -f docker/pipeline.Dockerfile -t landuse-pipeline --build-arg TRAIN_IMAGE=landuse-train .
#   docker run --rm landuse-pipeline                       # dvc repro of that copy, with the embedded dataset
#   docker run --rm --user "$(id -u):0" -v "$PWD:/work" -v /work/.venv landuse-pipeline repro        # of your checkout
#
# What follows the image's name are arguments of dvc. The second mount hides the checkout's own environment.
ARG TRAIN_IMAGE=landuse-train

FROM ${TRAIN_IMAGE}
WORKDIR /work
USER 0
# A mounted checkout belongs to somebody else than the image's user, which git would refuse. tini hands signals on to
# dvc and to what it runs; dvc as a container's first process would not hear them.
RUN apt-get update && apt-get install -y --no-install-recommends git tini && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /work \
    && chown 10001:0 /work
USER 10001
COPY --chown=10001:0 conf conf
COPY --chown=10001:0 sweeps sweeps
COPY --chown=10001:0 src src
COPY --chown=10001:0 pyproject.toml params.yaml dvc.yaml dvc.lock ./
COPY --chown=10001:0 .dvc/config .dvc/config
RUN dvc config --local core.no_scm true
# The code of /work comes first, so that a mounted checkout is run by its own.
ENV PYTHONPATH=/work/src:/opt/landuse/src:/opt/torch LANDUSE_COMMAND=
ARG GIT_COMMIT=
ENV LANDUSE_GIT_COMMIT=${GIT_COMMIT}
LABEL org.opencontainers.image.title="landuse-pipeline" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
HEALTHCHECK NONE
ENTRYPOINT ["tini", "-g", "--", "dvc"]
CMD ["repro"]
