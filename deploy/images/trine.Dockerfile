# Node, verifier, gateway. Build in the repository's root: docker build -f deploy/images/trine.Dockerfile -t trine:0.1.0 .
# Before an inference server nothing needs a GPU here; --build-arg TORCH_INDEX=<url> names an index with torch's CPU build
# where PyTorch's own cannot be reached.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=""
WORKDIR /src
COPY deploy/requirements deploy/requirements
COPY deploy/scripts/install.py deploy/scripts/install.py
COPY client_sdk client_sdk
COPY operators operators
COPY gateway gateway
COPY node node
COPY verifier verifier
RUN python -m venv /opt/trine \
    && TORCH_INDEX="$TORCH_INDEX" UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 /opt/trine/bin/python deploy/scripts/install.py operator

FROM python:3.11-slim-bookworm
COPY --from=build /opt/trine /opt/trine
RUN useradd --uid 10001 --create-home trine && install --directory --owner=trine /data
ENV PATH=/opt/trine/bin:$PATH TRINE_HOME=/data HOME=/data PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["trine"]
CMD ["node", "serve", "--config", "/etc/trine/node.toml"]
