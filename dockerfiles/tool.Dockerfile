# A tool environment as an image, for every folder with a requirements.lock and no Dockerfile. One
# file for amd64 and arm64. BASE is a name in bases.yaml; the build replaces it with that base pinned
# by digest.
ARG BASE=python-3.11

FROM ${BASE} AS install
ARG TARGETARCH
SHELL ["/bin/sh", "-euc"]
COPY requirements.lock /tmp/requirements.lock
# The secrets are the package index and the CA certificates; neither is stored in the image.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    case "${TARGETARCH}-$(uname -m)" in amd64-x86_64 | arm64-aarch64) ;; \
      *) echo "BASE is not for ${TARGETARCH} but for $(uname -m)" >&2; exit 1 ;; esac; \
    python3 -m venv --without-pip /opt/tool; \
    python3 -m pip --python /opt/tool/bin/python install --quiet --no-cache-dir --no-compile \
      --no-deps --require-hashes --only-binary=:all: --requirement /tmp/requirements.lock; \
    cp /tmp/requirements.lock /opt/tool/requirements.lock

FROM ${BASE}
LABEL org.opencontainers.image.title="Forge tool environment" \
      org.opencontainers.image.description="One locked tool environment of Forge, in /opt/tool" \
      forge.health="python3 -m pip --python /opt/tool/bin/python install --quiet --dry-run --no-index --no-deps --requirement /opt/tool/requirements.lock"
COPY --from=install /opt/tool /opt/tool
ENV PATH=/opt/tool/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 65532:65532
WORKDIR /tmp
# OCI images have no HEALTHCHECK: the label above contains the command.
# Each package of the lock is there; without index, so that nothing is fetched. `pip check` would ask
# for packages that the lock leaves out (excludes.txt).
HEALTHCHECK CMD ["python3", "-m", "pip", "--python", "/opt/tool/bin/python", "install", "--quiet", "--dry-run", "--no-index", "--no-deps", "--requirement", "/opt/tool/requirements.lock"]
CMD ["/opt/tool/bin/python"]
