# lsync in an image of its own: docker build -t lsync . && docker run --rm lsync version
# Mount the *folder* of the database (SQLite makes files beside it), on a local volume, and run as the application's user.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY litestream_py litestream_py
RUN python -m venv /opt/lsync \
    && /opt/lsync/bin/pip install --no-cache-dir -c constraints.txt setuptools \
    && /opt/lsync/bin/pip install --no-cache-dir --no-build-isolation -c constraints.txt . \
    && /opt/lsync/bin/pip uninstall --yes setuptools pip \
    && /opt/lsync/bin/lsync version --verbose

FROM python:3.13-slim
COPY --from=build /opt/lsync /opt/lsync
ENV PATH=/opt/lsync/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
# SIGTERM begins the final sync: give it time (docker stop --time 45).
STOPSIGNAL SIGTERM
ENTRYPOINT ["lsync"]
CMD ["replicate", "--config", "/etc/lsync.yml"]
