# The service on CPU. The database runs in a container of its own: see docker-compose.yml.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DATA_DIR=/data

RUN useradd --system --user-group --create-home --shell /usr/sbin/nologin face-identity \
    && install -d -o face-identity -g face-identity -m 0700 /data

WORKDIR /build

# Dependencies are a layer of their own, so that a change of the service does not install them again.
COPY constraints.txt ./
RUN pip install --require-hashes -r constraints.txt

COPY pyproject.toml setup.py LICENSE ./
COPY docs/package-page.md docs/package-page.md
COPY migrations migrations
COPY service service
COPY face_identity face_identity
RUN pip install --no-deps . && rm -rf /build/*

WORKDIR /service
USER face-identity
VOLUME /data
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

CMD ["face-identity", "serve", "--host", "0.0.0.0", "--port", "8000"]
