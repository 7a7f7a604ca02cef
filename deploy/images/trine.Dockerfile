# Node and verifier. Build in the repository's root: docker build -f deploy/images/trine.Dockerfile -t trine:0.1.0 .
# Before an inference server nothing needs a GPU here; --build-arg TORCH_INDEX=<url> names an index with torch's CPU build.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=""
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY client_sdk client_sdk
COPY node node
COPY verifier verifier
COPY deploy/trine_devnet deploy/trine_devnet
RUN python -m venv /opt/trine \
    && /opt/trine/bin/pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[node,verifier,postgres]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/trine /opt/trine
RUN useradd --uid 10001 --create-home trine && install --directory --owner=trine /data
ENV PATH=/opt/trine/bin:$PATH TRINE_HOME=/data HOME=/data PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["trine"]
CMD ["node", "serve", "--config", "/etc/trine/node.toml"]
