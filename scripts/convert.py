#!/usr/bin/env python3
"""Convert weights of TensorFlow.js packages to ONNX, with nothing but Python's standard library.

Two formats are read:

  tfjs-graph   a graph model: NAME.json (topology and weights manifest) and NAME.bin
  face-api     the weights of face-api's expression net: its manifest and its .bin.
               The package builds the graph in code, and `face_api` below repeats it

The result is the same bytes on every machine, so its SHA-256 can be checked. The layout changes
from NHWC to NCHW; the operations and weights stay the same. `make check-models` compares the
results with those of the packages' own JavaScript.

Usage: convert.py tfjs-graph|face-api JSON BIN OUTPUT.onnx
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from base64 import b64decode
from pathlib import Path
from typing import Iterable, NamedTuple


class ConversionFailed(Exception):
    """The files are not what this script can convert."""


class Weight(NamedTuple):
    shape: list[int]
    data: array  # float32 or int32


# --- protobuf and ONNX ------------------------------------------------------
# Field numbers: onnx.proto of ONNX 1.8 (IR version 7, operator set 13).

FLOAT, ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS = 1, 1, 2, 7


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, payload: bytes | str) -> bytes:
    if isinstance(payload, str):
        payload = payload.encode()
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def attribute(name: str, value: int | list[int]) -> bytes:
    if isinstance(value, list):
        body = b"".join(integer(8, v) for v in value) + integer(20, ATTRIBUTE_INTS)
    else:
        body = integer(3, value) + integer(20, ATTRIBUTE_INT)
    return message(1, name) + body


def value_info(name: str, shape: Iterable[int | str]) -> bytes:
    dims = b"".join(
        message(1, message(2, d) if isinstance(d, str) else integer(1, d)) for d in shape)
    tensor = integer(1, FLOAT) + message(2, dims)
    return message(1, name) + message(2, message(1, tensor))


class Graph:
    """An ONNX graph under construction."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: list[bytes] = []
        self.weights: list[bytes] = []
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []

    def node(self, op: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        body = b"".join(message(1, name) for name in inputs) + message(2, output)
        body += message(3, output) + message(4, op)
        body += b"".join(message(5, attribute(k, v)) for k, v in sorted(attributes.items()))
        self.nodes.append(body)
        return output

    def weight(self, name: str, dims: list[int], data: array) -> str:
        if sys.byteorder == "big":
            data = array("f", data)
            data.byteswap()
        body = b"".join(integer(1, d) for d in dims) + integer(2, FLOAT)
        self.weights.append(body + message(8, name) + message(9, data.tobytes()))
        return name

    def model(self) -> bytes:
        graph = b"".join(message(1, n) for n in self.nodes) + message(2, self.name)
        graph += b"".join(message(5, w) for w in self.weights)
        graph += b"".join(message(11, i) for i in self.inputs)
        graph += b"".join(message(12, o) for o in self.outputs)
        opset = message(1, "") + integer(2, 13)
        return integer(1, 7) + message(2, "gst-face convert.py") + message(7, graph) + message(8, opset)

    # --- layers in NCHW, from weights in TensorFlow's layout ---

    def convolution(self, x: str, kernel: Weight, output: str, size: int, stride: int,
                    bias: str | None = None, depthwise: bool = False) -> tuple[str, int]:
        """Padding SAME on a square input of `size`. Returns the output and its size."""
        height, width, channels, count = kernel.shape
        if height != width:
            raise ConversionFailed(f"{output}: a kernel of {height}x{width}")
        if depthwise and count != 1:
            raise ConversionFailed(f"{output}: {count} filters per channel")
        after = -(-size // stride)
        padding = max((after - 1) * stride + height - size, 0)
        pads = [padding // 2, padding // 2, padding - padding // 2, padding - padding // 2]
        if depthwise:
            dims, order = [channels, 1, height, width], [(0, c) for c in range(channels)]
            pick = lambda _, c: kernel.data[c::channels]
        else:
            dims = [count, channels, height, width]
            order = [(o, i) for o in range(count) for i in range(channels)]
            pick = lambda o, i: kernel.data[i * count + o::channels * count]
        data = array("f")
        if height == 1 and not depthwise:
            for o in range(count):
                data.extend(kernel.data[o::count])
        else:
            for o, i in order:
                data.extend(pick(o, i))
        inputs = [x, self.weight(f"{output}/kernel", dims, data)] + ([bias] if bias else [])
        self.node("Conv", inputs, output, group=channels if depthwise else 1,
                  kernel_shape=[height, width], pads=pads, strides=[stride, stride])
        return output, after

    def dense(self, x: str, kernel: Weight, bias: Weight, output: str) -> str:
        return self.node("Gemm", [x, self.weight(f"{output}/kernel", kernel.shape, kernel.data),
                                  self.weight(f"{output}/bias", bias.shape, bias.data)], output)


# --- weights of TensorFlow.js -------------------------------------------------


def read_weights(manifest: list, data: bytes) -> dict[str, Weight]:
    """The weights by name, as float32 (or int32). Source of the format: `decodeWeights` of tfjs."""
    weights, at = {}, 0
    for group in manifest:
        for entry in group["weights"]:
            shape = entry["shape"]
            count = 1
            for d in shape:
                count *= d
            quantization = entry.get("quantization")
            stored = quantization["dtype"] if quantization else entry["dtype"]
            code = {"float32": "f", "int32": "i", "float16": "e", "uint8": "B"}.get(stored)
            if code is None:
                raise ConversionFailed(f"{entry['name']}: no type {stored}")
            form = f"<{count}{code}"
            if at + struct.calcsize(form) > len(data):
                raise ConversionFailed("the weights end early")
            values = struct.unpack_from(form, data, at)
            at += struct.calcsize(form)
            if stored == "uint8":
                scale, least = quantization["scale"], quantization["min"]
                values = [v * scale + least for v in values]
            weights[entry["name"]] = Weight(shape, array("i" if code == "i" else "f", values))
    if at != len(data):
        raise ConversionFailed(f"{len(data) - at} bytes are left after the weights")
    return weights


# --- graph models --------------------------------------------------------------


def tfjs_graph(model: dict, data: bytes) -> bytes:
    """A graph model of the MobileNet kind: one square image in, dense heads out."""
    weights = read_weights(model["weightsManifest"], data)
    nodes = model["modelTopology"]["node"]
    graph = Graph("tfjs")
    # For each tensor: how ONNX calls it, and its height (0 for vectors).
    size: dict[str, int] = {}
    alias: dict[str, str] = {}

    def uses(name: str) -> list[dict]:
        return [n for n in nodes if name in n.get("input", [])]

    def scalar(name: str) -> float:
        if name not in weights or len(weights[name].data) != 1:
            raise ConversionFailed(f"{name} is not a number")
        return weights[name].data[0]

    def per_channel(name: str) -> str:
        return graph.weight(name, [len(weights[name].data), 1, 1], weights[name].data)

    def ints(node: dict, key: str) -> list[int]:
        return [int(i) for i in node["attr"][key]["list"]["i"]]

    for node in nodes:
        op, name, inputs = node["op"], node["name"], node.get("input", [])
        x = alias.get(inputs[0], inputs[0]) if inputs else ""
        if op == "Const":
            continue
        if op == "Placeholder":
            _, height, width, channels = [
                int(d["size"]) for d in node["attr"]["shape"]["shape"]["dim"]]
            if height != width:
                raise ConversionFailed(f"{name} is not square")
            graph.inputs.append(value_info(name, ["N", channels, height, width]))
            size[name] = height
        elif op in ("Conv2D", "DepthwiseConv2dNative"):
            strides, dilations = ints(node, "strides"), ints(node, "dilations")
            padding = b64decode(node["attr"]["padding"]["s"])
            if padding != b"SAME" or set(dilations) != {1} or strides[1] != strides[2]:
                raise ConversionFailed(f"{name}: padding {padding!r}, strides {strides}")
            _, size[name] = graph.convolution(
                x, weights[inputs[1]], name, size[inputs[0]], strides[1],
                depthwise=op != "Conv2D")
        elif op in ("Add", "Mul"):
            graph.node(op, [x, per_channel(inputs[1])], name)
            size[name] = size[inputs[0]]
        elif op == "Relu":
            # Relu, Minimum and Maximum are what remains of a ReLU6: one Clip.
            (least,) = uses(name)
            (most,) = uses(least["name"])
            if least["op"] != "Minimum" or most["op"] != "Maximum" or scalar(most["input"][1]) < 0:
                raise ConversionFailed(f"{name}: not a clipped ReLU")
            limits = []
            for limit in (most["input"][1], least["input"][1]):
                limits.append(graph.weight(limit, [], weights[limit].data))
            graph.node("Clip", [x, *limits], most["name"])
            size[most["name"]] = size[inputs[0]]
        elif op in ("Minimum", "Maximum"):
            continue
        elif op == "Mean":
            if list(weights[inputs[1]].data) != [1, 2]:
                raise ConversionFailed(f"{name}: not a mean over the picture")
            pooled = graph.node("GlobalAveragePool", [x], f"{name}/pooled")
            graph.node("Flatten", [pooled], name, axis=1)
        elif op == "_FusedMatMul":
            fused = [b64decode(s) for s in node["attr"]["fused_ops"]["list"]["s"]]
            kernel, bias = weights[inputs[1]], weights[inputs[2]]
            if fused == [b"BiasAdd", b"Relu"]:
                graph.node("Relu", [graph.dense(x, kernel, bias, f"{name}/dense")], name)
            elif fused == [b"BiasAdd"]:
                graph.dense(x, kernel, bias, name)
            else:
                raise ConversionFailed(f"{name}: fused {fused}")
            size[name] = kernel.shape[1]
        elif op == "Sigmoid":
            graph.node("Sigmoid", [x], name)
            graph.outputs.append(value_info(name, ["N", size[inputs[0]]]))
        elif op == "Softmax":
            graph.node("Softmax", [x], name, axis=1)
            graph.outputs.append(value_info(name, ["N", size[inputs[0]]]))
        else:
            raise ConversionFailed(f"{name}: no operation {op}")
    if len(graph.inputs) != 1 or not graph.outputs:
        raise ConversionFailed("not a graph with one input and classes as outputs")
    return graph.model()


# --- face-api's expression net --------------------------------------------------


def face_api(manifest: list, data: bytes) -> bytes:
    """The net of face-api's src/faceFeatureExtractor (`denseBlock4`) and faceExpressionNet.

    Input: (pixel - mean) / 255, RGB.
    """
    weights = read_weights(manifest, data)
    graph = Graph("face-api")
    graph.inputs.append(value_info("input", ["N", 3, 112, 112]))

    def layer(x: str, name: str, size: int, stride: int) -> tuple[str, int]:
        bias = graph.weight(f"{name}/bias", weights[f"{name}/bias"].shape,
                            weights[f"{name}/bias"].data)
        if f"{name}/filters" in weights:
            return graph.convolution(x, weights[f"{name}/filters"], name, size, stride, bias)
        x, size = graph.convolution(x, weights[f"{name}/depthwise_filter"], f"{name}/depthwise",
                                    size, stride, depthwise=True)
        return graph.convolution(x, weights[f"{name}/pointwise_filter"], name, size, 1, bias)

    x, size = "input", 112
    for block in ("dense0", "dense1", "dense2", "dense3"):
        first, size = layer(x, f"{block}/conv0", size, 2)
        total = graph.node("Relu", [first], f"{block}/conv0/relu")
        x = total
        for i in (1, 2, 3):
            out, _ = layer(x, f"{block}/conv{i}", size, 1)
            total = graph.node("Add", [total, out], f"{block}/sum{i}")
            x = graph.node("Relu", [total], f"{block}/sum{i}/relu")
    # The last feature map is 7x7, the size of face-api's pooling window.
    if size != 7:
        raise ConversionFailed(f"the last feature map is {size}x{size}")
    x = graph.node("GlobalAveragePool", [x], "pooled")
    x = graph.node("Flatten", [x], "features", axis=1)
    x = graph.dense(x, weights["fc/weights"], weights["fc/bias"], "fc")
    graph.node("Softmax", [x], "expression", axis=1)
    graph.outputs.append(value_info("expression", ["N", weights["fc/bias"].shape[0]]))
    return graph.model()


FORMATS = {"tfjs-graph": tfjs_graph, "face-api": face_api}


def convert(kind: str, text: bytes, data: bytes) -> bytes:
    """The ONNX file. `text` is the JSON, `data` the .bin."""
    if kind not in FORMATS:
        raise ConversionFailed(f"no format {kind}; the known ones are {', '.join(FORMATS)}")
    try:
        return FORMATS[kind](json.loads(text), data)
    except (KeyError, IndexError, TypeError, ValueError, struct.error) as e:
        raise ConversionFailed(f"not a model of the kind {kind}: {e!r}") from e


def main() -> int:
    if len(sys.argv) != 5:
        print(__doc__, file=sys.stderr)
        return 2
    kind, text, data, output = sys.argv[1:]
    try:
        made = convert(kind, Path(text).read_bytes(), Path(data).read_bytes())
        Path(output).write_bytes(made)
    except (ConversionFailed, OSError) as e:
        print(f"convert: error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
