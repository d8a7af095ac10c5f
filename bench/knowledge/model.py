"""The local model's weights as peers take them: float32, in the layout that Chroma downloads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bench.contestant import LeftOut
from bench.peers import environments
from services.rag.embedding.graph import FORMAT, FUSED, OPSET, WIDTH, Graph
from services.rag.embedding.published import NoModel, tokenizer_file
from services.rag.embedding.weights import load_weights

FILES = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def published() -> Path:
    """A directory with `onnx/model.onnx` and its tokenizer; made once. Raises LeftOut."""
    directory = environments.directory() / "minilm"
    if (directory / "onnx" / "model.onnx").exists():
        return directory
    unfinished = directory.with_name("minilm.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "onnx").mkdir(parents=True)
    try:
        for name in FILES:
            shutil.copyfile(tokenizer_file().parent / name, unfinished / "onnx" / name)
        _write(unfinished / "onnx" / "model.onnx")
    except NoModel as error:
        raise LeftOut(str(error)) from error
    unfinished.rename(directory)
    return directory


def _write(path: Path) -> None:
    from onnx import save

    save(_Published(load_weights()).model(), str(path))


class _Published(Graph):
    """With the inputs and the output of the published export: a vector for each token, which its reader pools."""

    def model(self) -> Any:
        from onnx import TensorProto, helper

        self._nodes.append(helper.make_node("Identity", [self._encoded()], ["last_hidden_state"]))
        value, names = helper.make_tensor_value_info, ("input_ids", "attention_mask", "token_type_ids")
        graph = helper.make_graph(
            self._nodes,
            "minilm",
            [value(name, TensorProto.INT64, ["texts", "tokens"]) for name in names],
            [value("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", WIDTH])],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)])
        model.ir_version = FORMAT
        return model
