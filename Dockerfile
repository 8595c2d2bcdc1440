# docker build -t prepaid-gateway .
# docker run -v ./prepaid.toml:/etc/prepaid/prepaid.toml:ro -v prepaid:/var/lib/prepaid prepaid-gateway
#
# Any image with Python 3.11 or newer, venv and useradd will do as the base: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
RUN python3 -m venv /opt/prepaid
WORKDIR /src
# The packages needed change less often than our code: they get a layer of their own.
COPY constraints.txt pyproject.toml README.md ./
RUN python3 -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" \
      > needed.txt \
    && /opt/prepaid/bin/pip install --no-cache-dir --constraint constraints.txt --requirement needed.txt
COPY config ./config
COPY ledger ./ledger
COPY sts ./sts
COPY channels ./channels
COPY gateway ./gateway
RUN /opt/prepaid/bin/pip install --no-cache-dir --no-deps .

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin prepaid \
    && mkdir -p /etc/prepaid /var/lib/prepaid/var \
    && chown -R prepaid /var/lib/prepaid
COPY --from=build /opt/prepaid /opt/prepaid
ENV PATH=/opt/prepaid/bin:${PATH} \
    PYTHONUNBUFFERED=1
USER prepaid
# Relative paths of the settings start here, such as the embedded database var/prepaid.db.
WORKDIR /var/lib/prepaid
VOLUME /var/lib/prepaid
# Health and metrics. They listen on loopback; -e PREPAID_HTTP__HOST=0.0.0.0 opens them to the container's network.
# The health check below does not read the settings file: a port other than 8080 is given as -e PREPAID_HTTP__PORT=...,
# not as [http] port there, else the container counts as unhealthy.
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('PREPAID_HTTP__PORT', '8080') + '/healthz', timeout=4)"]
CMD ["prepaid", "serve", "--config", "/etc/prepaid/prepaid.toml"]
