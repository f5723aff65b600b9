"""An ONNX graph that is written operation by operation, with a model's own weights."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from itertools import count
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Tensors = Mapping[str, Floats]
"""A model's weights by name."""
Shape = Sequence[str | int]
"""Sizes; a name stands for any size."""
OPSET, IR_VERSION = 17, 8
"""The first set of operations with layer norm, and a file version that all readers of that set know."""
EPSILON = 1e-5
"""What our norms add to the variance."""


class Graph:
    """A graph in the making. Every method adds operations and returns the name of their result.

    Args: tensors: the model's weights by name. above: the graph whose weights an inner graph, such as the body of a loop, uses.
    """

    def __init__(self, tensors: Tensors, *, above: "Graph | None" = None) -> None:
        self._tensors = tensors
        self._nodes: list[Any] = []
        self._stored: dict[str, npt.NDArray[Any]] = {} if above is None else above._stored
        self._numbers = count() if above is None else above._numbers
        self._helper: Any = import_module("onnx.helper")

    def inner(self) -> "Graph":
        """The body of a loop: nodes of its own, and the weights of this graph."""
        return Graph(self._tensors, above=self)

    def has(self, name: str) -> bool:
        """Whether the model has a weight of this name."""
        return name in self._tensors

    def tensor(self, name: str) -> Floats:
        """A weight's numbers."""
        return self._tensors[name]

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add one operation; with several outputs they are named RESULT, RESULT.1, ..."""
        name = f"{kind}_{next(self._numbers)}"
        names = [name, *(f"{name}.{number}" for number in range(1, outputs))]
        self._nodes.append(self._helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return name

    def name(self, value: str, name: str) -> str:
        """Give a result the name of an output."""
        self._nodes.append(self._helper.make_node("Identity", [value], [name], name=f"name_{name}"))
        return name

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A weight by our name; a matrix is stored transposed on demand, so that no run has to do it."""
        stored = f"{name}.transposed" if transposed else name
        if stored not in self._stored:
            self._stored[stored] = np.ascontiguousarray(self._tensors[name].T if transposed else self._tensors[name])
        return stored

    def constant(self, value: Iterable[float] | float, *, integer: bool = False) -> str:
        """Numbers that are no weight: float32, or int64."""
        array = np.array(value, dtype=np.int64 if integer else np.float32)
        name = f"constant_{next(self._numbers)}"
        self._stored[name] = array
        return name

    def array(self, name: str, value: npt.NDArray[Any]) -> str:
        """A table that is computed from weights."""
        self._stored[name] = np.ascontiguousarray(value, dtype=np.float32)
        return name

    def linear(self, values: str, weight: str, bias: str | None = None) -> str:
        """x·Wᵀ + b."""
        found = self.op("MatMul", values, self.weight(weight, transposed=True))
        return found if bias is None or not self.has(bias) else self.op("Add", found, self.weight(bias))

    def layer(self, values: str, at: str) -> str:
        """A linear layer of torch by its name."""
        return self.linear(values, f"{at}.weight", f"{at}.bias")

    def layer_norm(self, values: str, at: str) -> str:
        """Layer norm over the last dimension."""
        return self.op("LayerNormalization", values, self.weight(f"{at}.weight"), self.weight(f"{at}.bias"), axis=-1, epsilon=EPSILON)

    def batch_norm(self, values: str, at: str) -> str:
        """Batch norm by its running statistics: one factor and one term for each feature."""
        factor = self._tensors[f"{at}.weight"] / np.sqrt(self._tensors[f"{at}.running_variance"] + EPSILON)
        term = self._tensors[f"{at}.bias"] - self._tensors[f"{at}.running_mean"] * factor
        return self.op("Add", self.op("Mul", values, self.array(f"{at}.factor", factor)), self.array(f"{at}.term", term))

    def rms_norm(self, values: str, at: str) -> str:
        """x / sqrt(mean(x²) + 1e-5) · g over the last dimension."""
        mean = self.op("ReduceMean", self.op("Mul", values, values), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.constant(EPSILON)))
        return self.op("Mul", self.op("Div", values, root), self.weight(f"{at}.weight"))

    def embed(self, tokens: str, table: str) -> str:
        """Rows of a table, times the root of its width."""
        rows = self.op("Gather", self.weight(table), tokens, axis=0)
        return self.op("Mul", rows, self.constant(self._tensors[table].shape[1] ** 0.5))

    def logits(self, hidden: str, *, tied: bool) -> str:
        """The output `logits` (rows, V) of (rows, D): the product with each token's output vector, and its bias where there is one."""
        table = self.weight("target_embedding.weight" if tied else "output_weight")
        bias = [self.weight("output_bias")] if self.has("output_bias") else []
        return self.name(self.op("Gemm", hidden, table, *bias, transB=1), "logits")

    def size(self, values: str, axis: int) -> str:
        """The size of one dimension, as a list of one number."""
        return self.op("Shape", values, start=axis, end=axis + 1)

    def places(self, tokens: str) -> str:
        """0, 1, 2, ... for the columns of (rows, columns)."""
        columns = self.squeeze(self.size(tokens, 1), 0)
        return self.op("Range", self.constant(0, integer=True), columns, self.constant(1, integer=True))

    def unsqueeze(self, values: str, *axes: int) -> str:
        """New dimensions of size 1."""
        return self.op("Unsqueeze", values, self.constant(axes, integer=True))

    def squeeze(self, values: str, axis: int) -> str:
        """Without a dimension of size 1."""
        return self.op("Squeeze", values, self.constant([axis], integer=True))

    def padding_bias(self, tokens: str, *axes: int) -> str:
        """What is added to the scores of source positions: 0, or the lowest number at padding (id 0), with new dimensions."""
        padding = self.op("Equal", tokens, self.constant(0, integer=True))
        lowest = self.constant(float(np.finfo(np.float32).min))
        return self.unsqueeze(self.op("Where", padding, lowest, self.constant(0.0)), *axes)

    def value(self, name: str, shape: Shape, *, kind: Literal["float", "int64", "bool"] = "float") -> Any:
        """An input or output."""
        types: Any = import_module("onnx").TensorProto
        return self._helper.make_tensor_value_info(name, {"float": types.FLOAT, "int64": types.INT64, "bool": types.BOOL}[kind], shape)

    def body(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The finished body of a loop."""
        return self._helper.make_graph(self._nodes, "body", list(inputs), list(outputs))

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
        """The finished model's file."""
        to_proto: Any = import_module("onnx.numpy_helper").from_array
        weights = [to_proto(array, stored) for stored, array in self._stored.items()]
        graph = self._helper.make_graph(self._nodes, name, list(inputs), list(outputs), weights)
        opset = [self._helper.make_opsetid("", OPSET)]
        return self._helper.make_model(graph, producer_name="vitrail", opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
