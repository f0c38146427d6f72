//! Models that pass some of their input on unchanged: they show what arrives at a graph.

use face_core::onnx::float_output;
use face_core::onnx::protobuf::{FLOAT, field, put_bytes, put_integer};
use serde_json::{Value, json};

/// Of `TensorProto.DataType`.
const INT64: u64 = 7;

const IR_VERSION: u32 = 1;
const MODEL_OPERATORS: u32 = 8;
const OPERATORS_VERSION: u32 = 2;
const GRAPH_NAME: u32 = 2;

fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, payload) in fields {
        put_bytes(&mut out, *number, payload);
    }
    out
}

/// A constant of one 64-bit integer.
fn integer(name: &str, value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_integer(&mut out, field::TENSOR_DIMS, 1);
    put_integer(&mut out, field::TENSOR_DATA_TYPE, INT64);
    put_bytes(&mut out, field::TENSOR_NAME, name.as_bytes());
    put_bytes(&mut out, field::TENSOR_RAW_DATA, &value.to_le_bytes());
    out
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for input in inputs {
        put_bytes(&mut out, field::NODE_INPUT, input.as_bytes());
    }
    put_bytes(&mut out, field::NODE_OUTPUT, output.as_bytes());
    put_bytes(&mut out, field::NODE_OP_TYPE, operator.as_bytes());
    out
}

/// An ONNX file with the input `x` of `shape` and the output `y` (1, `count`): every `step`-th number
/// of the input, in its own order.
pub fn graph(shape: [u32; 4], step: u32, count: u32) -> Vec<u8> {
    let mut dims = Vec::new();
    for size in shape {
        let mut dim = Vec::new();
        put_integer(&mut dim, field::DIM_VALUE, size.into());
        put_bytes(&mut dims, field::SHAPE_DIM, &dim);
    }
    let mut tensor = Vec::new();
    put_integer(&mut tensor, field::TENSOR_TYPE_ELEMENT, FLOAT);
    put_bytes(&mut tensor, field::TENSOR_TYPE_SHAPE, &dims);
    let kind = message(&[(field::TYPE_TENSOR, &tensor)]);
    let input = message(&[(field::VALUE_NAME, b"x"), (field::VALUE_TYPE, &kind)]);
    let end = i64::from(step) * i64::from(count);
    let graph = message(&[
        (field::GRAPH_NODE, &node("Flatten", &["x"], "all")),
        (
            field::GRAPH_NODE,
            &node("Slice", &["all", "start", "end", "axis", "step"], "y"),
        ),
        (GRAPH_NAME, b"made"),
        (field::GRAPH_INITIALIZER, &integer("start", 0)),
        (field::GRAPH_INITIALIZER, &integer("end", end)),
        (field::GRAPH_INITIALIZER, &integer("axis", 1)),
        (field::GRAPH_INITIALIZER, &integer("step", step.into())),
        (field::GRAPH_INPUT, &input),
        (field::GRAPH_OUTPUT, &float_output("y")),
    ]);
    let mut operators = Vec::new();
    put_integer(&mut operators, OPERATORS_VERSION, 13);
    let mut model = Vec::new();
    put_integer(&mut model, IR_VERSION, 8);
    put_bytes(&mut model, field::MODEL_GRAPH, &graph);
    put_bytes(&mut model, MODEL_OPERATORS, &operators);
    model
}

/// The descriptor of a recogniser of 512 numbers like FaceNet: 160x160, channels last, each image
/// standardised.
pub fn like_facenet(name: &str) -> Value {
    json!({
        "name": name,
        "task": "recognition",
        "decoder": "embedding",
        "input": {
            "name": "x", "shape": ["N", 160, 160, 3], "color": "RGB",
            "mean": [0, 0, 0], "scale": [1, 1, 1], "normalization": "per-image",
        },
        // The template of ArcFace, enlarged: FaceNet's own crops are by box.
        "alignment": {"template": {
            "right_eye": [55, 74], "left_eye": [105, 74], "nose": [80, 102],
            "right_mouth": [59, 132], "left_mouth": [101, 132],
        }},
        "dimensions": 512,
        "distance_threshold": 0.5,
    })
}

/// The graph of [`like_facenet`], with 512 of its 76 800 numbers.
pub fn facenet_graph() -> Vec<u8> {
    graph([1, 160, 160, 3], 150, 512)
}

/// The descriptor of a recogniser of 512 numbers like ArcFace: 112x112, one plane per channel,
/// (x − 127.5) / 127.5.
pub fn like_arcface(name: &str) -> Value {
    json!({
        "name": name,
        "task": "recognition",
        "decoder": "embedding",
        "input": {
            "name": "x", "shape": ["N", 3, 112, 112], "color": "RGB",
            "mean": [127.5, 127.5, 127.5], "scale": [1.0 / 127.5, 1.0 / 127.5, 1.0 / 127.5],
        },
        "alignment": {"template": {
            "right_eye": [38, 52], "left_eye": [74, 52], "nose": [56, 72],
            "right_mouth": [41, 92], "left_mouth": [71, 92],
        }},
        "dimensions": 512,
        "distance_threshold": 0.5,
    })
}

/// The graph of [`like_arcface`], with 512 of its 37 632 numbers.
pub fn arcface_graph() -> Vec<u8> {
    graph([1, 3, 112, 112], 73, 512)
}
