"""Convert small TensorFlow Lite networks to ONNX, with Python's standard library only.

It knows the operators of MediaPipe's face detectors: convolutions, sums, pooling, padding, ReLU, reshapes
and concatenations, with weights in float32 or float16. Pictures become (1, channels, height, width). The
result is the same every time.

References: tensorflow/lite/schema/schema.fbs, onnx/onnx.proto.
"""

from __future__ import annotations

import struct


class ConversionFailed(Exception):
    """The network has a part that this code does not know."""


# --- reading: FlatBuffers ----------------------------------------------------


class Table:
    """A FlatBuffers table; fields are numbered as in the schema."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at

    def number(self, form: str, at: int):
        return struct.unpack_from("<" + form, self.data, at)[0]

    def field(self, index: int) -> int | None:
        """Where the field's value is; `None` if it has its default."""
        vtable = self.at - self.number("i", self.at)
        place = 4 + 2 * index
        offset = self.number("H", vtable + place) if place < self.number("H", vtable) else 0
        return self.at + offset if offset else None

    def scalar(self, index: int, form: str, default=0):
        at = self.field(index)
        return default if at is None else self.number(form, at)

    def table(self, index: int) -> "Table | None":
        at = self.field(index)
        return None if at is None else Table(self.data, at + self.number("I", at))

    def vector(self, index: int) -> tuple[int, int]:
        """Where the elements begin, and how many there are."""
        at = self.field(index)
        if at is None:
            return 0, 0
        at += self.number("I", at)
        return at + 4, self.number("I", at)

    def tables(self, index: int) -> list["Table"]:
        at, count = self.vector(index)
        return [Table(self.data, at + 4 * i + self.number("I", at + 4 * i)) for i in range(count)]

    def integers(self, index: int) -> list[int]:
        at, count = self.vector(index)
        return list(struct.unpack_from(f"<{count}i", self.data, at)) if count else []

    def bytes(self, index: int) -> bytes:
        at, count = self.vector(index)
        return self.data[at:at + count]


# --- writing: Protocol Buffers -----------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def integer(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


FLOAT, INT64 = 1, 7


def tensor(name: str, kind: int, shape: list[int], data: bytes) -> bytes:
    return (b"".join(integer(1, size) for size in shape) + integer(2, kind) + text(8, name)
            + text(9, data))


def value_info(name: str, shape: list[int]) -> bytes:
    sizes = b"".join(text(1, integer(1, size)) for size in shape)
    return text(1, name) + text(2, text(1, integer(1, FLOAT) + text(2, sizes)))


def node(kind: str, inputs: list[str], output: str, **attributes) -> bytes:
    out = b"".join(text(1, name) for name in inputs) + text(2, output) + text(4, kind)
    for name, value in sorted(attributes.items()):
        if isinstance(value, str):
            out += text(5, text(1, name) + text(4, value) + integer(20, 3))
        elif isinstance(value, int):
            out += text(5, text(1, name) + integer(3, value) + integer(20, 2))
        else:
            out += text(5, text(1, name) + b"".join(integer(8, v) for v in value) + integer(20, 7))
    return out


# --- converting --------------------------------------------------------------

# BuiltinOperator
ADD, CONCATENATION, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE = 0, 2, 3, 4, 6
MAX_POOL_2D, RELU, RESHAPE, PAD = 17, 19, 22, 34
# Padding, ActivationFunctionType, TensorType
SAME, NO_ACTIVATION, ONLY_RELU, FLOAT32, FLOAT16 = 0, 0, 1, 0, 1


class Network:
    def __init__(self, data: bytes):
        if data[4:8] != b"TFL3":
            raise ConversionFailed("not a TensorFlow Lite file")
        model = Table(data, struct.unpack_from("<I", data)[0])
        codes = model.tables(1)
        self.kinds = [max(code.scalar(0, "b"), code.scalar(3, "i")) for code in codes]
        graph, *others = model.tables(2)
        if others:
            raise ConversionFailed("several graphs")
        self.tensors = graph.tables(0)
        self.buffers = model.tables(4)
        self.inputs, self.outputs = graph.integers(1), graph.integers(2)
        self.operators = graph.tables(3)
        # Tensors that are copies of constants.
        self.copies: dict[int, int] = {}
        self.constants: dict[str, bytes] = {}
        self.nodes: list[bytes] = []

    def shape(self, index: int) -> list[int]:
        return self.tensors[index].integers(0)

    def name(self, index: int) -> str:
        return self.tensors[index].bytes(3).decode()

    def numbers(self, index: int) -> list[float]:
        """The numbers of a constant."""
        index = self.copies.get(index, index)
        table = self.tensors[index]
        data = self.buffers[table.scalar(2, "I")].bytes(0)
        form = {FLOAT32: "f", FLOAT16: "e"}.get(table.scalar(1, "b"))
        if form is None or not data:
            raise ConversionFailed(f"{self.name(index)} is not a constant of floats")
        return list(struct.unpack(f"<{len(data) // struct.calcsize(form)}{form}", data))

    def constant(self, name: str, shape: list[int], numbers: list) -> str:
        kind, form = (INT64, "q") if isinstance(numbers[0], int) else (FLOAT, "f")
        data = struct.pack(f"<{len(numbers)}{form}", *numbers)
        self.constants[name] = tensor(name, kind, shape, data)
        return name

    def weights(self, index: int) -> str:
        """The weights of a convolution: output, height, width, input becomes output, input, height, width.
        (Of one by channel, with a first size of 1, the last size becomes the first.)"""
        outputs, height, width, inputs = self.shape(index)
        numbers = self.numbers(index)
        moved = [numbers[((o * height + y) * width + x) * inputs + i]
                 for o in range(outputs) for i in range(inputs)
                 for y in range(height) for x in range(width)]
        return self.constant(self.name(index), [outputs, inputs, height, width], moved)

    def depthwise(self, index: int) -> str:
        name = self.weights(index)
        _, height, width, channels = self.shape(index)
        # The order of the numbers is right, as the first size is 1.
        numbers = struct.unpack(f"<{channels * height * width}f",
                                self.constants[name][-4 * channels * height * width:])
        return self.constant(name, [channels, 1, height, width], list(numbers))

    def add(self, kind: str, inputs: list[str], output: int, activation: int, **attributes) -> None:
        name = self.name(output)
        before = {NO_ACTIVATION: name, ONLY_RELU: name + "/linear"}.get(activation)
        if before is None:
            raise ConversionFailed(f"activation {activation}")
        self.nodes.append(node(kind, inputs, before, **attributes))
        if before != name:
            self.nodes.append(node("Relu", [before], name))

    def convert(self, operator: Table) -> None:
        kind = self.kinds[operator.scalar(0, "I")]
        inputs, (output,) = operator.integers(1), operator.integers(2)
        options = operator.table(4) or Table(b"\4\0\0\0\4\0\4\0\4\0\0\0", 8)
        names = [self.name(index) for index in inputs]
        shape = self.shape(output)
        if kind == DEQUANTIZE:
            self.copies[output] = inputs[0]
        elif kind in (CONV_2D, DEPTHWISE_CONV_2D):
            by_channel = kind == DEPTHWISE_CONV_2D
            weights = self.depthwise(inputs[1]) if by_channel else self.weights(inputs[1])
            bias = self.constant(names[2], self.shape(inputs[2]), self.numbers(inputs[2]))
            _, height, width, _ = self.shape(inputs[1])
            self.add("Conv", [names[0], weights, bias], output,
                     options.scalar(4 if by_channel else 3, "b"),
                     auto_pad="SAME_UPPER" if options.scalar(0, "b") == SAME else "VALID",
                     group=shape[3] if by_channel else 1, kernel_shape=[height, width],
                     strides=[options.scalar(2, "i", 1), options.scalar(1, "i", 1)])
        elif kind == ADD:
            self.add("Add", names, output, options.scalar(0, "b"))
        elif kind == RELU:
            self.add("Relu", names, output, NO_ACTIVATION)
        elif kind == MAX_POOL_2D:
            self.add("MaxPool", names, output, options.scalar(5, "b"),
                     auto_pad="SAME_UPPER" if options.scalar(0, "b") == SAME else "VALID",
                     kernel_shape=[options.scalar(4, "i"), options.scalar(3, "i")],
                     strides=[options.scalar(2, "i"), options.scalar(1, "i")])
        elif kind == PAD:
            table = self.tensors[inputs[1]]
            data = self.buffers[table.scalar(2, "I")].bytes(0)
            (n0, n1), (h0, h1), (w0, w1), (c0, c1) = struct.iter_unpack("<2i", data)
            pads = self.constant(names[1] + f"/{output}", [8], [n0, c0, h0, w0, n1, c1, h1, w1])
            self.nodes.append(node("Pad", [names[0], pads], self.name(output)))
        elif kind == RESHAPE:
            last = names[0] + "/channels-last"
            size = self.constant(self.name(output) + "/shape", [len(shape)], shape)
            self.nodes.append(node("Transpose", [names[0]], last, perm=[0, 2, 3, 1]))
            self.nodes.append(node("Reshape", [last, size], self.name(output)))
        elif kind == CONCATENATION and len(shape) == 3:
            self.add("Concat", names, output, options.scalar(1, "b"), axis=options.scalar(0, "i"))
        else:
            raise ConversionFailed(f"operator {kind}")

    def onnx(self) -> bytes:
        for operator in self.operators:
            self.convert(operator)
        (picture,) = self.inputs
        batch, height, width, channels = self.shape(picture)
        graph = b"".join(text(1, node) for node in self.nodes) + text(2, "network")
        graph += b"".join(text(5, constant) for constant in self.constants.values())
        graph += text(11, value_info(self.name(picture), [batch, channels, height, width]))
        for output in self.outputs:
            graph += text(12, value_info(self.name(output), self.shape(output)))
        return integer(1, 8) + text(2, "gst-face") + text(7, graph) + text(8, integer(2, 13))


def convert(data: bytes) -> bytes:
    """The bytes of an .onnx file with the network of a .tflite file."""
    try:
        return Network(data).onnx()
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as e:
        raise ConversionFailed(f"damaged: {e}") from e
