"""Serves a PyTorch LSTM as a stream: every client has a carry, every request is a step.

    python serve_torch.py --port 8000 model.safetensors
    curl localhost:8000/anna -d '[0.1, 0.2, 0.3]'      # {"step": 1, "prediction": [...]}
    curl -X DELETE localhost:8000/anna                 # forgets anna

The file holds the state dict of a module with an `lstm` (of any depth) and a `head`, an
nn.Linear. Reading and serving need no PyTorch. Without a file the example makes such a
module with PyTorch, serves it, asks it over HTTP as three clients who take turns, and
compares: as it stands the answers differed from PyTorch's own by 4e-8 at most. A request
took 3 ms, nearly all of it HTTP with a connection of its own.
"""

import argparse
import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jax
import numpy as np
from safetensors.numpy import load_file

from jaxrnn.convert import from_torch

CLIENTS = 1000  # whose carries are kept; the one unheard for longest is forgotten first


class Stream:
    """Steps of a network for many clients, by one compiled program."""

    def __init__(self, path):
        self.cell, self.params = from_torch(path, prefix="lstm.")
        weights = load_file(path)
        kernel, bias = weights["head.weight"].T, weights["head.bias"]
        self.carries, self.lock = {}, threading.Lock()

        @jax.jit
        def step(params, carry, x):
            carry, y = self.cell.step(params, carry, x)
            return carry, y @ kernel + bias

        self.begin = 0, self.cell.initial_carry(self.params)
        self.step = step
        self.answer("nobody", [0.0] * self.cell.input_size)  # compiles before it serves
        self.forget("nobody")

    def answer(self, client, x):
        x = np.asarray(x, np.float32)
        if x.shape != (self.cell.input_size,):
            raise ValueError(f"a step takes {self.cell.input_size} numbers, got {x.shape}")
        with self.lock:  # one after the other, whatever the threads
            count, carry = self.carries.pop(client, self.begin)
            carry, prediction = self.step(self.params, carry, x)
            self.carries[client] = count + 1, carry
            if len(self.carries) > CLIENTS:
                del self.carries[next(iter(self.carries))]
        return {"step": count + 1, "prediction": np.asarray(prediction).tolist()}

    def forget(self, client):
        with self.lock:
            self.carries.pop(client, None)


def server(stream, port):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # a client's connection stays open

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                self.reply(200, stream.answer(self.path, json.loads(body)))
            except (ValueError, TypeError) as error:
                self.reply(400, {"error": str(error)})

        def do_DELETE(self):
            stream.forget(self.path)
            self.reply(200, {})

        def reply(self, code, content):
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def try_out(path):
    """Serves a fresh module of PyTorch, and asks it as three clients."""
    import torch
    from safetensors.torch import save_file

    class Forecast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 32, num_layers=2)
            self.head = torch.nn.Linear(32, 2)

    torch.manual_seed(0)
    module = Forecast()
    save_file(module.state_dict(), path)
    here = server(Stream(path), 0)
    threading.Thread(target=here.serve_forever, daemon=True).start()
    xs = np.random.default_rng(0).normal(size=(20, 3, 3)).astype(np.float32)  # [T, B, D]

    def ask(client, x):
        address = f"http://127.0.0.1:{here.server_port}/{client}"
        body = json.dumps(x.tolist()).encode()
        with urllib.request.urlopen(address, body) as reply:
            return json.load(reply)["prediction"]

    began = time.perf_counter()
    ours = np.array([[ask(client, x) for client, x in enumerate(at)] for at in xs])
    took = (time.perf_counter() - began) / ours[..., 0].size
    with torch.no_grad():
        theirs = module.head(module.lstm(torch.from_numpy(xs))[0]).numpy()
    here.shutdown()
    here.server_close()
    print(f"differs by {np.abs(ours - theirs).max():.1e}, {1000 * took:.2f} ms a request")


arguments = argparse.ArgumentParser()
arguments.add_argument("file", nargs="?", help="the module's state dict, .safetensors")
arguments.add_argument("--port", type=int, default=8000)
given = arguments.parse_args()
if given.file is None:
    try_out("model.safetensors")
else:
    with server(Stream(given.file), given.port) as here:
        print(f"serving {given.file} on http://127.0.0.1:{here.server_port}")
        here.serve_forever()
