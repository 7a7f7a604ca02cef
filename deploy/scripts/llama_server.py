"""llama.cpp's own HTTP server, from the wheel that carries it: `python llama_server.py MODEL.gguf PORT`.

For tests and comparisons: serves under the name "served" until it is killed.
"""

import argparse
import threading

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--api-key-file", type=argparse.FileType())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=4096)
    given = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.model_alias = {"served"}
    params.hostnames = ["127.0.0.1"]
    params.port = given.port
    params.api_keys = [given.api_key_file.readline().strip()] if given.api_key_file else []
    params.n_ctx = given.context
    params.n_parallel = 2
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = given.threads
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
