"""A graph of ONNX, written node by node."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from rllib_wireless import __version__

# That of ONNX 1.12, so that runtimes of some years ago read it. Trees need a newer one.
_OPSET = 17
_TREES_DOMAIN, _TREES_OPSET = "ai.onnx.ml", 5

Array = npt.NDArray[Any]


class Form(NamedTuple):
    """Type and shape of an array; sizes that are not fixed have a name."""

    dtype: type[np.generic]
    shape: tuple[int | str, ...]


class Graph:
    """Collects nodes; calling it adds one and gives the name of what comes out.

    g = Graph()
    hidden = g("Relu", g("MatMul", "obs", weights))
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[onnx.TensorProto] = []
        self._opsets = {"": _OPSET}

    def __call__(self, op: str, *inputs: str | Array | np.generic, **attributes: Any) -> str:
        """Add a node.

        Args:
            op: The operator, with its domain and a colon in front where that is not ONNX's own.
            inputs: Names, or arrays, which become constants of the file.
            attributes: The operator's attributes; arrays are attributes that are tensors.
        """
        domain, _, name = op.rpartition(":")
        if domain:
            self._opsets[domain] = _TREES_OPSET
        output = f"{name.lower()}_{len(self._nodes)}"
        given = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attributes.items()}
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        self._nodes.append(helper.make_node(name, names, [output], domain=domain, **given))
        return output

    def trees(self, inputs: str, **attributes: Any) -> str:
        """Add a node of regression trees."""
        return self(f"{_TREES_DOMAIN}:TreeEnsemble", inputs, **attributes)

    def model(
        self,
        inputs: Mapping[str, Form],
        outputs: Mapping[str, tuple[str, Form]],
        doc: str,
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The finished model, checked.

        Args:
            inputs: The model's inputs.
            outputs: Its outputs, each with the name of the node's output that it is.
            doc: What the model is.
            metadata: What else is to be known of it.
        """
        final = {node: name for name, (node, _) in outputs.items()}
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [final.get(name, name) for name in names]
        graph = helper.make_graph(
            self._nodes,
            "policy",
            [_described(name, form) for name, form in inputs.items()],
            [_described(name, form) for name, (_, form) in outputs.items()],
            self._arrays,
            doc_string=doc,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="rllib_wireless",
            producer_version=__version__,
            doc_string=doc,
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, array: Array | np.generic) -> str:
        name = f"constant_{len(self._arrays)}"
        self._arrays.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def _described(name: str, form: Form) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(form.dtype)), form.shape)
