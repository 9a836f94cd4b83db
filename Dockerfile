# Build: everything the service needs, pinned, into one virtual environment without pip.
FROM python:3.13-slim-trixie AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT=/src/constraints.txt PIP_BUILD_CONSTRAINT=/src/constraints.txt
RUN python -m venv --without-pip /opt/tiny-ca
COPY . .
RUN pip --python /opt/tiny-ca/bin/python install --constraint constraints.txt '.[service]'

# Run: that environment and a user who owns nothing but /data. The root file system may be read-only.
FROM python:3.13-slim-trixie
RUN useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin tiny-ca \
    && install --directory --owner=tiny-ca --group=tiny-ca --mode=0700 /data
COPY --from=build /opt/tiny-ca /opt/tiny-ca
# Not by flags: `tiny-ca health` must know them too. HTTPS with a certificate of the CA's own, unless
# TINY_CA_BEHIND_PROXY=true says that a proxy in front does TLS.
ENV PATH=/opt/tiny-ca/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TINY_CA_DATA_DIR=/data \
    TINY_CA_HOST=0.0.0.0 \
    TINY_CA_PORT=8000
# The number, so that a cluster can tell that it is not root.
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["tiny-ca", "health"]
CMD ["tiny-ca", "serve"]
