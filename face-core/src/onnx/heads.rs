//! The outputs of a detector, computed together.
//!
//! YuNet has four outputs for each of its strides: two scores, a box, five landmarks. Each is made of the same
//! features by a pointwise and a depthwise convolution of its own, with 1, 1, 4 and 10 channels. ONNX Runtime
//! computes channels in blocks of 8 or 16, whether there are so many or not. One pair of convolutions with all
//! 16 channels computes the same sums in a quarter of that time (a tenth of the whole model's). What follows in
//! the graph, transposes, reshapes and sigmoids, is left out: a decoder needs them for the few cells only
//! that hold a face.

use std::collections::{HashMap, HashSet};

use super::protobuf::{
    FLOAT, Field, Fields, TYPE_INT, TYPE_INTS, field, payload, put_bytes, put_integer, varint,
};
use super::{OnnxError, float_output};

/// Outputs that are made of the same features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The output instead of them, of shape (batch, channels of all parts, height, width).
    pub output: &'static str,
    pub parts: [Part; 4],
}

/// An output of shape (batch, height · width, channels).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub output: &'static str,
    pub channels: usize,
    /// Whether a sigmoid comes last, which the head leaves out.
    pub sigmoid: bool,
}

impl Part {
    const fn new(output: &'static str, channels: usize, sigmoid: bool) -> Self {
        Self {
            output,
            channels,
            sigmoid,
        }
    }
}

const fn yunet(output: &'static str, parts: [&'static str; 4]) -> Head {
    let [class, object, boxes, points] = parts;
    Head {
        output,
        parts: [
            Part::new(class, 1, true),
            Part::new(object, 1, true),
            Part::new(boxes, 4, false),
            Part::new(points, 10, false),
        ],
    }
}

/// YuNet's outputs: score and objectness before their sigmoids, box, landmarks.
pub const YUNET: [Head; 3] = [
    yunet("head_8", ["cls_8", "obj_8", "bbox_8", "kps_8"]),
    yunet("head_16", ["cls_16", "obj_16", "bbox_16", "kps_16"]),
    yunet("head_32", ["cls_32", "obj_32", "bbox_32", "kps_32"]),
];

/// The heads that a model's decoder can read.
pub fn of_decoder(decoder: &str) -> &'static [Head] {
    match decoder {
        "yunet" => &YUNET,
        _ => &[],
    }
}

/// Of the features; YuNet has 64. Parts may share weights, which are copied here: the file's length alone
/// would not bound them.
const MOST_CHANNELS: u64 = 1 << 16;

/// Names and the like, as they stand in the file.
type Text<'a> = &'a [u8];

#[derive(Default)]
struct Node<'a> {
    op_type: Text<'a>,
    inputs: Vec<Text<'a>>,
    outputs: Vec<Text<'a>>,
    /// Those made of integers.
    attributes: HashMap<Text<'a>, Vec<u64>>,
    /// Has graphs inside, or is of another domain.
    strange: bool,
}

#[derive(Default)]
struct Tensor<'a> {
    name: Text<'a>,
    dims: Vec<u64>,
    data_type: u64,
    data: Text<'a>,
}

/// The integers of a repeated field, packed or not.
fn integers(field: &Field, into: &mut Vec<u64>) -> Option<()> {
    if field.payload.is_empty() {
        into.push(field.value);
    }
    let mut packed = field.payload;
    while !packed.is_empty() {
        into.push(varint(&mut packed)?);
    }
    Some(())
}

fn parse_node(message: &[u8]) -> Option<Node<'_>> {
    let mut node = Node::default();
    for field in Fields(message) {
        let field = field.ok()?;
        match field.number {
            field::NODE_INPUT => node.inputs.push(field.payload),
            field::NODE_OUTPUT => node.outputs.push(field.payload),
            field::NODE_OP_TYPE => node.op_type = field.payload,
            field::NODE_DOMAIN => node.strange |= !field.payload.is_empty(),
            field::NODE_ATTRIBUTE => {
                let (mut name, mut values): (Text, _) = (&[], Vec::new());
                for field in Fields(field.payload) {
                    let field = field.ok()?;
                    match field.number {
                        field::ATTRIBUTE_NAME => name = field.payload,
                        field::ATTRIBUTE_I | field::ATTRIBUTE_INTS => {
                            integers(&field, &mut values)?;
                        }
                        field::ATTRIBUTE_G | field::ATTRIBUTE_GRAPHS => node.strange = true,
                        _ => {}
                    }
                }
                node.attributes.insert(name, values);
            }
            _ => {}
        }
    }
    Some(node)
}

fn parse_tensor(message: &[u8]) -> Option<Tensor<'_>> {
    let mut tensor = Tensor::default();
    for field in Fields(message) {
        let field = field.ok()?;
        match field.number {
            field::TENSOR_DIMS => integers(&field, &mut tensor.dims)?,
            field::TENSOR_DATA_TYPE => tensor.data_type = field.value,
            // Both are little-endian numbers, one after the other.
            field::TENSOR_FLOAT_DATA | field::TENSOR_RAW_DATA => tensor.data = field.payload,
            field::TENSOR_NAME => tensor.name = field.payload,
            _ => {}
        }
    }
    Some(tensor)
}

/// What of a graph matters here.
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    tensors: HashMap<Text<'a>, Tensor<'a>>,
    /// Which node makes a value.
    makers: HashMap<Text<'a>, usize>,
    /// How many nodes and outputs of the graph use a value.
    uses: HashMap<Text<'a>, usize>,
    outputs: HashSet<Text<'a>>,
}

fn parse_graph(message: &[u8]) -> Option<Graph<'_>> {
    let mut graph = Graph {
        nodes: Vec::new(),
        tensors: HashMap::new(),
        makers: HashMap::new(),
        uses: HashMap::new(),
        outputs: HashSet::new(),
    };
    for field in Fields(message) {
        let field = field.ok()?;
        match field.number {
            field::GRAPH_NODE => {
                let node = parse_node(field.payload)?;
                for input in &node.inputs {
                    *graph.uses.entry(input).or_default() += 1;
                }
                for output in &node.outputs {
                    graph.makers.insert(output, graph.nodes.len());
                }
                graph.nodes.push(node);
            }
            field::GRAPH_INITIALIZER => {
                let tensor = parse_tensor(field.payload)?;
                graph.tensors.insert(tensor.name, tensor);
            }
            field::GRAPH_OUTPUT => {
                let name = payload(field.payload, field::VALUE_NAME).ok()?;
                *graph.uses.entry(name).or_default() += 1;
                graph.outputs.insert(name);
            }
            _ => {}
        }
    }
    Some(graph)
}

/// The weights of one convolution: those of its channels, one after the other, and their biases.
#[derive(Default)]
struct Weights {
    values: Vec<u8>,
    biases: Vec<u8>,
}

impl<'a> Graph<'a> {
    /// The node that makes `value` for nobody else than who asks, if it is an `op_type`.
    fn maker(&self, value: Text<'a>, op_type: &str) -> Option<usize> {
        let index = *self.makers.get(value)?;
        let node = &self.nodes[index];
        let alone = node.outputs.len() == 1 && self.uses.get(value) == Some(&1);
        (alone && !node.strange && node.op_type == op_type.as_bytes()).then_some(index)
    }

    /// Appends the weights of a convolution of `channels` channels out of `inputs` each to `weights`;
    /// `None` if it is another one than `kernel` x `kernel` that keeps height and width.
    fn convolution(
        &self,
        node: usize,
        channels: u64,
        inputs: u64,
        kernel: u64,
        weights: &mut Weights,
    ) -> Option<()> {
        let node = &self.nodes[node];
        let groups = if kernel == 1 { 1 } else { channels };
        for (name, default, wanted) in [
            ("kernel_shape", vec![kernel; 2], vec![kernel; 2]),
            ("strides", vec![1; 2], vec![1; 2]),
            ("dilations", vec![1; 2], vec![1; 2]),
            ("pads", vec![0; 4], vec![kernel / 2; 4]),
            ("group", vec![1], vec![groups]),
        ] {
            let found = node.attributes.get(name.as_bytes()).unwrap_or(&default);
            if *found != wanted {
                return None;
            }
        }
        let known: [&[u8]; 5] = [b"kernel_shape", b"strides", b"dilations", b"pads", b"group"];
        if !node.attributes.keys().all(|name| known.contains(name)) {
            return None;
        }
        let values = self.floats(node.inputs.get(1)?, &[channels, inputs, kernel, kernel])?;
        weights.values.extend_from_slice(values);
        match node.inputs.get(2) {
            Some(bias) => weights
                .biases
                .extend_from_slice(self.floats(bias, &[channels])?),
            None => weights
                .biases
                .resize(weights.biases.len() + channels as usize * 4, 0),
        }
        Some(())
    }

    /// The numbers of a tensor of that shape.
    fn floats(&self, name: Text<'a>, dims: &[u64]) -> Option<Text<'a>> {
        let tensor = self.tensors.get(name)?;
        let length = dims.iter().product::<u64>().checked_mul(4)?;
        (tensor.data_type == FLOAT && tensor.dims == dims && tensor.data.len() as u64 == length)
            .then_some(tensor.data)
    }

    /// The input channels of the convolution `node`.
    fn channels(&self, node: usize) -> Option<u64> {
        let weights = self.tensors.get(self.nodes[node].inputs.get(1)?)?;
        weights
            .dims
            .get(1)
            .copied()
            .filter(|channels| *channels <= MOST_CHANNELS)
    }
}

/// What replaces the nodes of one head.
struct Merged<'a> {
    head: &'a Head,
    features: Text<'a>,
    inputs: u64,
    pointwise: Weights,
    depthwise: Weights,
}

/// Finds the nodes of `head`, which go into `dropped`.
fn find<'a>(
    graph: &Graph<'a>,
    head: &'a Head,
    name: impl Fn(&str) -> String,
    dropped: &mut HashSet<usize>,
) -> Option<Merged<'a>> {
    let mut merged: Option<Merged> = None;
    for part in &head.parts {
        let mut value: Text = graph.outputs.get(name(part.output).as_bytes())?;
        let mut before = |op_type: &str| {
            let node = graph.maker(value, op_type)?;
            dropped.insert(node);
            value = graph.nodes[node].inputs.first()?;
            Some(node)
        };
        if part.sigmoid {
            before("Sigmoid")?;
        }
        before("Reshape")?;
        let transpose = before("Transpose")?;
        let to_channels_last = graph.nodes[transpose].attributes.get(&b"perm"[..]);
        if to_channels_last != Some(&vec![0, 2, 3, 1]) {
            return None;
        }
        let (depthwise, pointwise) = (before("Conv")?, before("Conv")?);
        let inputs = graph.channels(pointwise)?;
        let merged = merged.get_or_insert_with(|| Merged {
            head,
            features: value,
            inputs,
            pointwise: Weights::default(),
            depthwise: Weights::default(),
        });
        if merged.features != value || merged.inputs != inputs {
            return None;
        }
        let channels = part.channels as u64;
        graph.convolution(pointwise, channels, inputs, 1, &mut merged.pointwise)?;
        graph.convolution(depthwise, channels, 1, 3, &mut merged.depthwise)?;
    }
    merged
}

fn put_tensor(graph: &mut Vec<u8>, name: &str, dims: &[u64], data: &[u8]) {
    let mut tensor = Vec::with_capacity(data.len() + 64);
    for dim in dims {
        put_integer(&mut tensor, field::TENSOR_DIMS, *dim);
    }
    put_integer(&mut tensor, field::TENSOR_DATA_TYPE, FLOAT);
    put_bytes(&mut tensor, field::TENSOR_NAME, name.as_bytes());
    put_bytes(&mut tensor, field::TENSOR_RAW_DATA, data);
    put_bytes(graph, field::GRAPH_INITIALIZER, &tensor);
}

fn put_convolution(
    graph: &mut Vec<u8>,
    inputs: [&[u8]; 3],
    output: &str,
    kernel: u64,
    groups: u64,
) {
    let mut node = Vec::new();
    for input in inputs {
        put_bytes(&mut node, field::NODE_INPUT, input);
    }
    put_bytes(&mut node, field::NODE_OUTPUT, output.as_bytes());
    put_bytes(&mut node, field::NODE_OP_TYPE, b"Conv");
    let attribute = |name: &str, kind, number, values: &[u64]| {
        let mut attribute = Vec::new();
        put_bytes(&mut attribute, field::ATTRIBUTE_NAME, name.as_bytes());
        put_integer(&mut attribute, field::ATTRIBUTE_TYPE, kind);
        for value in values {
            put_integer(&mut attribute, number, *value);
        }
        attribute
    };
    for (name, values) in [
        ("kernel_shape", vec![kernel; 2]),
        ("pads", vec![kernel / 2; 4]),
    ] {
        let attribute = attribute(name, TYPE_INTS, field::ATTRIBUTE_INTS, &values);
        put_bytes(&mut node, field::NODE_ATTRIBUTE, &attribute);
    }
    let group = attribute("group", TYPE_INT, field::ATTRIBUTE_I, &[groups]);
    put_bytes(&mut node, field::NODE_ATTRIBUTE, &group);
    put_bytes(graph, field::GRAPH_NODE, &node);
}

impl Merged<'_> {
    fn put(&self, graph: &mut Vec<u8>) {
        let output = self.head.output;
        let channels = self
            .head
            .parts
            .iter()
            .map(|part| part.channels as u64)
            .sum();
        let [w1, b1, w2, b2, between] = self.names();
        put_tensor(
            graph,
            &w1,
            &[channels, self.inputs, 1, 1],
            &self.pointwise.values,
        );
        put_tensor(graph, &b1, &[channels], &self.pointwise.biases);
        put_tensor(graph, &w2, &[channels, 1, 3, 3], &self.depthwise.values);
        put_tensor(graph, &b2, &[channels], &self.depthwise.biases);
        let inputs = [self.features, w1.as_bytes(), b1.as_bytes()];
        put_convolution(graph, inputs, &between, 1, 1);
        let inputs = [between.as_bytes(), w2.as_bytes(), b2.as_bytes()];
        put_convolution(graph, inputs, output, 3, channels);
        put_bytes(graph, field::GRAPH_OUTPUT, &float_output(output));
    }

    /// Of its weights, and of the value between the convolutions.
    fn names(&self) -> [String; 5] {
        ["w1", "b1", "w2", "b2", "between"].map(|name| format!("{}/{name}", self.head.output))
    }
}

/// The graph with `heads`, or `None` if it is not built like that. `name` gives the name in the graph of
/// what a decoder calls an output.
fn merge_graph(message: &[u8], heads: &[Head], name: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    let graph = parse_graph(message)?;
    // Graphs inside of nodes may use anything.
    if graph.nodes.iter().any(|node| node.strange) {
        return None;
    }
    let mut dropped = HashSet::new();
    let merged = heads
        .iter()
        .map(|head| find(&graph, head, &name, &mut dropped))
        .collect::<Option<Vec<_>>>()?;
    let taken = |name: &str| {
        let name = name.as_bytes();
        graph.makers.contains_key(name) || graph.tensors.contains_key(name)
    };
    let mut new = merged.iter().flat_map(Merged::names);
    if heads.iter().any(|head| taken(head.output)) || new.any(|name| taken(&name)) {
        return None;
    }
    let kept = |index: &usize| !dropped.contains(index);
    let used: HashSet<Text> = (0..graph.nodes.len())
        .filter(kept)
        .flat_map(|index| graph.nodes[index].inputs.iter().copied())
        .collect();
    // What only dropped nodes used: the runtime would warn of it.
    let unused: HashSet<Text> = dropped
        .iter()
        .flat_map(|&index| graph.nodes[index].inputs.iter().copied())
        .filter(|name| !used.contains(name))
        .collect();
    let outputs: HashSet<String> = heads
        .iter()
        .flat_map(|head| &head.parts)
        .map(|part| name(part.output))
        .collect();
    let mut out = Vec::with_capacity(message.len());
    let mut index = 0;
    for field in Fields(message) {
        let field = field.ok()?;
        let keep = match field.number {
            field::GRAPH_NODE => {
                index += 1;
                !dropped.contains(&(index - 1))
            }
            field::GRAPH_INITIALIZER => {
                let name = payload(field.payload, field::TENSOR_NAME).ok()?;
                !unused.contains(name)
            }
            field::GRAPH_OUTPUT => {
                let name = payload(field.payload, field::VALUE_NAME).ok()?;
                !outputs.iter().any(|output| output.as_bytes() == name)
            }
            _ => true,
        };
        if keep {
            out.extend_from_slice(field.whole);
        }
    }
    for merged in &merged {
        merged.put(&mut out);
    }
    Some(out)
}

/// The model with `heads` instead of their parts; `None` where it is not built as described above, and so
/// stays as it is. `name` gives the name in the graph of what a decoder calls an output.
pub fn merge(
    model: &[u8],
    heads: &[Head],
    name: impl Fn(&str) -> String,
) -> Result<Option<Vec<u8>>, OnnxError> {
    if heads.is_empty() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(model.len());
    for field in Fields(model) {
        let field = field?;
        if field.number == field::MODEL_GRAPH {
            match merge_graph(field.payload, heads, &name) {
                Some(graph) => put_bytes(&mut out, field.number, &graph),
                None => return Ok(None),
            }
        } else {
            out.extend_from_slice(field.whole);
        }
    }
    Ok(Some(out))
}
