"""Builds all-MiniLM-L6-v2 as an ONNX graph of int8 weights, without torch, and keeps it where it is found the next time."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from services.rag.embedding.published import WEIGHTS
from services.rag.embedding.runtime import load_runtime
from services.rag.embedding.weights import load_weights

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
OPSET, FORMAT = 17, 8
FUSED = "com.microsoft"  # operators of the runtime's own, which take a quarter less of the processor
NAME = f"minilm-{WEIGHTS[:12]}-2.onnx"  # another graph needs another name
INSTALLED = Path(sys.prefix) / "share" / "fluidcrew"


def graph_file(directory: Path) -> Path:
    """Where set-up has put it; else built in the directory, once, however many ask for it at the same time."""
    if (INSTALLED / NAME).exists():
        return INSTALLED / NAME
    path = directory / NAME
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
    return path


def _make(path: Path) -> None:
    """Whole or not at all."""
    load_runtime()
    from onnx import TensorProto, save
    from onnxruntime.quantization import QuantType, quantize_dynamic

    full, small = path.with_suffix(".full"), path.with_suffix(".new")
    try:
        save(Graph(load_weights()).model(), str(full))
        guessed = {"DefaultTensorType": TensorProto.FLOAT}  # of what comes out of fused operators
        quantize_dynamic(full, small, weight_type=QuantType.QInt8, per_channel=True, extra_options=guessed)
        os.replace(small, path)
    finally:
        full.unlink(missing_ok=True)
        small.unlink(missing_ok=True)


class Graph:
    """BERT with mean pooling, its vectors of length 1: `input_ids` and `attention_mask` to `vectors`."""

    def __init__(self, weights: dict[str, Any]) -> None:
        from onnx import helper

        self._weights = weights
        self._onnx = helper
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def model(self) -> Any:
        from onnx import TensorProto

        vectors = self._pooled(self._encoded())
        self._nodes.append(self._onnx.make_node("LpNormalization", [vectors], ["vectors"], axis=1, p=2))
        value = self._onnx.make_tensor_value_info
        graph = self._onnx.make_graph(
            self._nodes,
            "minilm",
            [value(name, TensorProto.INT64, ["texts", "tokens"]) for name in ("input_ids", "attention_mask")],
            [value("vectors", TensorProto.FLOAT, ["texts", WIDTH])],
            list(self._constants.values()),
        )
        model = self._onnx.make_model(
            graph, opset_imports=[self._onnx.make_opsetid("", OPSET), self._onnx.make_opsetid(FUSED, 1)]
        )
        model.ir_version = FORMAT
        return model

    def _encoded(self) -> str:
        from onnx import TensorProto

        x, mask = self._embedded(), self._op("Cast", "attention_mask", to=TensorProto.INT32)
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            x = self._joined(self._attended(x, mask, layer), x, f"{layer}.attention.output")
            grown = self._product(x, f"{layer}.intermediate.dense")
            grown = self._op("BiasGelu", grown, self._weight(f"{layer}.intermediate.dense.bias"), domain=FUSED)
            x = self._joined(grown, x, f"{layer}.output")
        return x

    def _embedded(self) -> str:
        length = self._op("Slice", self._op("Shape", "input_ids"), self._ints(1), self._ints(2))
        positions = self._weight("embeddings.position_embeddings.weight")
        places = self._op("Slice", positions, self._ints(0), length, self._ints(0))
        words = self._op("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        kind = self._constant("kind", self._weights["embeddings.token_type_embeddings.weight"][0])
        return self._normed(self._op("Add", self._op("Add", words, places), kind), "embeddings.LayerNorm")

    def _attended(self, x: str, mask: str, layer: str) -> str:
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        inputs = x, self._constant(f"{layer}.attention", weight), self._constant(f"{layer}.bias", bias), mask
        return self._op("Attention", *inputs, num_heads=HEADS, domain=FUSED)

    def _joined(self, y: str, x: str, name: str) -> str:
        """What a layer has made of x, and x itself."""
        weights = (f"{name}.LayerNorm.weight", f"{name}.LayerNorm.bias", f"{name}.dense.bias")
        inputs = self._product(y, f"{name}.dense"), x, *map(self._weight, weights)
        return self._op("SkipLayerNormalization", *inputs, epsilon=EPSILON, domain=FUSED)

    def _product(self, x: str, name: str) -> str:
        return self._op("MatMul", x, self._constant(f"{name}.turned", self._weights[f"{name}.weight"].T))

    def _pooled(self, x: str) -> str:
        mask = self._op("Unsqueeze", self._mask(), self._ints(2))
        total = self._op("ReduceSum", self._op("Mul", x, mask), self._ints(1), keepdims=0)
        return self._op("Div", total, self._op("ReduceSum", mask, self._ints(1), keepdims=0))

    def _mask(self) -> str:
        from onnx import TensorProto

        return self._op("Cast", "attention_mask", to=TensorProto.FLOAT)

    def _normed(self, x: str, name: str) -> str:
        scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _ints(self, *numbers: int) -> str:
        return self._constant(f"ints_{'_'.join(map(str, numbers))}", np.array(numbers, np.int64))

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(self._onnx.make_node(kind, list(inputs), [output], **attributes))
        return output
