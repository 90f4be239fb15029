# syntax=docker/dockerfile:1
# The DVC pipeline: the training image with git, and with what `dvc repro` needs of the repository.
#
#   docker build -f docker/pipeline.Dockerfile -t landuse-pipeline --build-arg TRAIN_IMAGE=landuse-train .
#   docker run --rm landuse-pipeline                                # dvc repro on the embedded dataset
#   docker run --rm --user "$(id -u):0" -v "$PWD:/work" landuse-pipeline    # of your checkout
#
# What follows the image's name are arguments of dvc.
ARG TRAIN_IMAGE=landuse-train

FROM ${TRAIN_IMAGE}
ARG GIT_COMMIT=
LABEL org.opencontainers.image.title="landuse-pipeline" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
WORKDIR /work
USER 0
# A mounted checkout belongs to somebody else than the image's user, which git would refuse.
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /work \
    && chown 10001:0 /work
USER 10001
COPY --chown=10001:0 conf conf
COPY --chown=10001:0 sweeps sweeps
COPY --chown=10001:0 src/landuse/config/schema.py src/landuse/config/schema.py
COPY --chown=10001:0 pyproject.toml params.yaml dvc.yaml dvc.lock ./
COPY --chown=10001:0 .dvc/config .dvc/config
RUN dvc config --local core.no_scm true
ENV LANDUSE_COMMAND=
HEALTHCHECK NONE
ENTRYPOINT ["dvc"]
CMD ["repro"]
