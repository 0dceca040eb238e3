"""galvatron-lsp-server over standard input and output, as an editor talks to it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("GALVATRON_BUILD", ROOT / os.environ.get("GALVATRON_BUILD_DIR", "build")))


class Server:
    def __init__(self):
        self.process = subprocess.Popen(
            [BUILD / "bin" / "galvatron-lsp-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.number, self.diagnostics = 0, None

    def send(self, **message):
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.process.stdin.flush()

    def read(self):
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message = json.loads(self.process.stdout.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics = message["params"]["diagnostics"]
        return message

    def ask(self, method, **parameters):
        self.number += 1
        self.send(id=self.number, method=method, params=parameters)
        while (answer := self.read()).get("id") != self.number:
            pass
        return answer["result"]

    def told(self, text, version, method="textDocument/didChange"):
        """Diagnostics of a text."""
        document = {"uri": URI, "version": version}
        self.diagnostics = None
        if method == "textDocument/didOpen":
            self.send(method=method, params={"textDocument": document | {"languageId": "mlir", "text": text}})
        else:
            self.send(method=method, params={"textDocument": document, "contentChanges": [{"text": text}]})
        while self.diagnostics is None:
            self.read()
        return self.diagnostics


URI = "file:///program.mlir"


@pytest.fixture
def server():
    one = Server()
    one.ask("initialize", processId=None, rootUri=None, capabilities={})
    one.send(method="initialized", params={})
    yield one
    one.ask("shutdown")
    one.send(method="exit")
    assert one.process.wait(60) == 0


def test_diagnostics_hover_definition_and_completion(server):
    text = (ROOT / "test" / "Inputs" / "llama.mlir").read_text()
    lines = text.split("\n")
    assert server.told(text, 1, "textDocument/didOpen") == []

    def at(words, after=0):
        line = next(number for number, each in enumerate(lines) if words in each)
        return {"textDocument": {"uri": URI}, "position": {"line": line, "character": lines[line].index(words) + after}}

    (definition,) = server.ask("textDocument/definition", **at("@embedding(%input_ids)", 2))
    assert "@embedding" in lines[definition["range"]["start"]["line"]]
    hover = server.ask("textDocument/hover", **at("graph.embedding", 2))
    assert '"graph.embedding"' in hover["contents"]["value"] and "tensor<8x16x24xf32>" in hover["contents"]["value"]
    items = server.ask("textDocument/completion", **at("%table, %ids", 1))["items"]
    assert "%table" in [item["label"] for item in items] or "table" in [item["insertText"] for item in items]

    # A verifier's message, at the op's place.
    wrong = text.replace(
        "tensor<32x24xf32>, tensor<8x16xi64>) -> tensor<8x16x24xf32>",
        "tensor<32x24xf32>, tensor<8x16xi64>) -> tensor<8x16x25xf32>",
        1,
    )
    assert wrong != text
    diagnostic, *_ = server.told(wrong, 2)
    assert diagnostic["severity"] == 1 and lines[diagnostic["range"]["start"]["line"]].count("%v0")
    assert server.told(text, 3) == []
