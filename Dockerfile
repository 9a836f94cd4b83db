# Build: everything the service needs, pinned, into one virtual environment.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/tiny-ca
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/src/constraints.txt PIP_BUILD_CONSTRAINT=/src/constraints.txt
COPY . .
RUN /opt/tiny-ca/bin/pip install --constraint constraints.txt '.[service]'

# Run: that environment and a user who owns nothing but /data.
FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin tiny-ca \
    && install --directory --owner=tiny-ca --group=tiny-ca --mode=0700 /data
COPY --from=build /opt/tiny-ca /opt/tiny-ca
ENV PATH=/opt/tiny-ca/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TINY_CA_DATA_DIR=/data
USER tiny-ca
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# TLS is for the proxy in front; publish the port on loopback or on a private network only.
# For TLS of its own: `tiny-ca serve --host 0.0.0.0 --tls auto`, with a healthcheck over https.
CMD ["tiny-ca", "serve", "--host", "0.0.0.0", "--port", "8000", "--behind-proxy", "--tls", "off"]
