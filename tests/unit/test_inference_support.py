"""An inference server that does as it is told, over real sockets: honest until a test says otherwise."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "served-model"
CONTEXT_TOKENS = 512
EOS = 2
SERVERS_OWN_END = 0  # and of nobody else


class Exchange(BaseHTTPRequestHandler):
    """One request and what is sent back. A script gets it and writes whatever it likes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.body = None
        self._act()

    def do_POST(self):
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._act()

    def log_message(self, *_):
        pass

    def _act(self):
        script = self.server.script
        script.seen.append((self.path, dict(self.headers), self.body))
        try:
            script.acts.get(self.path, Script.unknown)(self)
        except (BrokenPipeError, ConnectionResetError):
            script.hung_up.set()
            self.close_connection = True

    def raw(self, data, status=200, **headers):
        self.send_response(status)
        for name, value in {"content-length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def json(self, answer, status=200):
        self.raw(json.dumps(answer).encode(), status)

    def begin(self):
        """A stream that ends with the connection."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()

    def event(self, data):
        self.wfile.write(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n")
        self.wfile.flush()

    def hold(self):
        """Says nothing more, until whoever waits has had enough."""
        self.connection.recv(1)

    def drip(self, data):
        """The same bytes over and over, until whoever reads has had enough."""
        while True:
            self.wfile.write(data)
            self.wfile.flush()
            time.sleep(0.02)


class Script:
    """What the server does at each path; `answer` is what its model says to anything."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.reset()

    def reset(self):
        self.answer = [504, 338, 253, EOS]
        self.margins = {}  # by position in the whole text: how far the token there lies below the best one
        self.seen = []
        self.hung_up = threading.Event()
        self.acts = {"/v1/models": self.models, "/tokenize": self.tokenize, "/props": self.props}
        self.acts |= {"/v1/completions": self.vllm, "/generate": self.sglang, "/completion": self.llamacpp}

    def asked(self, path):
        """The bodies that came to a path."""
        return [body for seen, _, body in self.seen if seen == path]

    @staticmethod
    def unknown(exchange):
        exchange.json({"error": "not found"}, 404)

    def models(self, exchange):
        exchange.json({"data": [{"id": MODEL, "max_model_len": CONTEXT_TOKENS}]})

    def props(self, exchange):
        exchange.json({"default_generation_settings": {"n_ctx": CONTEXT_TOKENS}, "total_slots": 2})

    def tokenize(self, exchange):
        text = exchange.body.get("prompt", exchange.body.get("content"))
        exchange.json({"tokens": self.tokenizer(text, add_special_tokens=False)["input_ids"]})

    def vllm(self, exchange):
        asked = exchange.body
        if asked.get("prompt_logprobs"):
            entries = [None, *(self._entry(i, token) for i, token in enumerate(asked["prompt"]) if i)]
            exchange.json({"model": MODEL, "choices": [{"prompt_logprobs": entries}]})
            return
        exchange.begin()
        for place, token in enumerate(self.answer[: asked["max_tokens"]]):
            exchange.event(chunk(token, **({} if place else {"prompt_token_ids": asked["prompt"]})))
        exchange.event(b"[DONE]")

    def sglang(self, exchange):
        asked = exchange.body
        text = asked["input_ids"]
        if asked.get("return_logprob"):
            start = asked["logprob_start_len"]
            about = {"prompt_tokens": len(text), "input_token_logprobs": [[None, text[start], None]]}
            about["input_top_logprobs"] = [None]
            for place in range(start + 1, len(text)):
                logprobs = {int(i): entry["logprob"] for i, entry in self._entry(place, text[place]).items()}
                best = max(logprobs, key=logprobs.get)
                about["input_token_logprobs"].append([logprobs[text[place]], text[place], None])
                about["input_top_logprobs"].append([[logprobs[best], best, None]])
            exchange.json({"text": "", "output_ids": [7], "meta_info": about})
            return
        exchange.begin()
        sampling = asked["sampling_params"]
        tokens = self.answer[self._got(text) :][: sampling["max_new_tokens"]]
        for count, token in enumerate(tokens, 1):
            ended = token in (SERVERS_OWN_END, *sampling["stop_token_ids"])
            exchange.event(
                said(tokens[:count], count, len(text), {"type": "stop", "matched": token} if ended else None)
            )
            if ended:
                break
        exchange.event(b"[DONE]")

    def _got(self, text):
        """How far of its answer a text has got to."""
        return next(n for n in range(len(self.answer), -1, -1) if n == 0 or text[-n:] == self.answer[:n])

    def _entry(self, place, token):
        below = self.margins.get(place, 0.0)
        best = {"999": {"logprob": -0.25}} if below else {}
        return {str(token): {"logprob": -0.25 - below}, **best}

    def llamacpp(self, exchange):
        """Its model goes on with `answer`, wherever of it the text has got to."""
        asked = exchange.body
        text = asked["prompt"]
        tokens = self.answer[self._got(text) :][: asked["n_predict"]]
        answer = {"model": MODEL, "tokens": tokens, "tokens_evaluated": len(text), "truncated": False}
        answer["stop_type"] = "eos" if EOS in tokens else "limit"
        if count := asked.get("n_probs"):
            top = [{"id": i, "logprob": -0.25 - 0.1 * i} for i in range(count)]
            answer["completion_probabilities"] = [{"top_logprobs": top}]
        exchange.json(answer)


def chunk(*tokens, model=MODEL, **fields):
    """An event of vLLM's stream."""
    return {"model": model, "choices": [{"index": 0, "text": "", "token_ids": list(tokens), **fields}]}


def said(ids, completion_tokens, prompt_tokens, reason=None):
    """An event of SGLang's stream."""
    about = {"completion_tokens": completion_tokens, "prompt_tokens": prompt_tokens, "finish_reason": reason}
    return {"text": "", "output_ids": ids, "meta_info": about}


@contextmanager
def scripted(tokenizer):
    """(url, script) of a server that listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
    server.daemon_threads = True
    server.script = Script(tokenizer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
