//! Computes several outputs of a detector together.
//!
//! YuNet has four outputs for each of its strides: two scores, a box and five landmarks. Each has
//! its own pointwise and depthwise convolution of the same features, with 1, 1, 4 and 10 channels.
//! ONNX Runtime computes channels in blocks of 8 or 16, even if there are fewer. A single pair of
//! convolutions with all 16 channels computes the same sums in a quarter of that time, which saves
//! about a tenth of the whole model's. The transposes, reshapes and sigmoids after them are left
//! out: a decoder needs them only for the few cells that hold a face.

use std::collections::{HashMap, HashSet};

use face_core::onnx::protobuf::{
    FLOAT, Field, Fields, TYPE_INT, TYPE_INTS, field, payload, put_bytes, put_integer, varint,
};
use face_core::onnx::{OnnxError, float_output};
use face_core::session::Edit;

/// Outputs that are computed from the same features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The output that replaces them, of shape (batch, channels of all parts, height, width).
    pub output: &'static str,
    pub parts: [Part; 4],
}

/// An output of shape (batch, height · width, channels).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub output: &'static str,
    pub channels: usize,
    /// Whether a sigmoid follows. The head leaves it out.
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

/// Computes YuNet's outputs together when its model is loaded.
pub const MERGE_YUNET: Edit = Edit {
    name: "merge-yunet-heads",
    apply: |descriptor, model| merge(model, &YUNET, |role| descriptor.output(role).to_owned()),
};

/// The most channels of the features; YuNet has 64. Parts may share weights, and these are copied
/// here, so the file's length alone would not bound the memory.
const MOST_CHANNELS: u64 = 1 << 16;

/// Names and other strings in the file.
type Text<'a> = &'a [u8];

#[derive(Default)]
struct Node<'a> {
    op_type: Text<'a>,
    inputs: Vec<Text<'a>>,
    outputs: Vec<Text<'a>>,
    /// Attributes made of integers.
    attributes: HashMap<Text<'a>, Vec<u64>>,
    /// Whether it has inner graphs, or belongs to another domain.
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
            // Both are little-endian numbers in sequence.
            field::TENSOR_FLOAT_DATA | field::TENSOR_RAW_DATA => tensor.data = field.payload,
            field::TENSOR_NAME => tensor.name = field.payload,
            _ => {}
        }
    }
    Some(tensor)
}

/// The parts of a graph that matter here.
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    tensors: HashMap<Text<'a>, Tensor<'a>>,
    /// The node that makes each value.
    makers: HashMap<Text<'a>, usize>,
    /// The number of nodes and graph outputs that use each value.
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

/// The weights of one convolution: those of its channels in sequence, and their biases.
#[derive(Default)]
struct Weights {
    values: Vec<u8>,
    biases: Vec<u8>,
}

impl<'a> Graph<'a> {
    /// The node that makes `value`, if it is an `op_type` and `value` has no other use.
    fn maker(&self, value: Text<'a>, op_type: &str) -> Option<usize> {
        let index = *self.makers.get(value)?;
        let node = &self.nodes[index];
        let alone = node.outputs.len() == 1 && self.uses.get(value) == Some(&1);
        (alone && !node.strange && node.op_type == op_type.as_bytes()).then_some(index)
    }

    /// Appends the weights of a convolution with `channels` channels of `inputs` each to `weights`.
    /// `None` unless it is a `kernel` x `kernel` convolution that keeps height and width.
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

    /// The numbers of a tensor with the shape `dims`.
    fn floats(&self, name: Text<'a>, dims: &[u64]) -> Option<Text<'a>> {
        let tensor = self.tensors.get(name)?;
        let length = dims.iter().product::<u64>().checked_mul(4)?;
        (tensor.data_type == FLOAT && tensor.dims == dims && tensor.data.len() as u64 == length)
            .then_some(tensor.data)
    }

    /// The number of input channels of the convolution `node`.
    fn channels(&self, node: usize) -> Option<u64> {
        let weights = self.tensors.get(self.nodes[node].inputs.get(1)?)?;
        weights
            .dims
            .get(1)
            .copied()
            .filter(|channels| *channels <= MOST_CHANNELS)
    }
}

/// Replaces the nodes of one head.
struct Merged<'a> {
    head: &'a Head,
    features: Text<'a>,
    inputs: u64,
    pointwise: Weights,
    depthwise: Weights,
}

/// Finds the nodes of `head` and adds them to `dropped`.
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

    /// The names of its weights, and of the value between the convolutions.
    fn names(&self) -> [String; 5] {
        ["w1", "b1", "w2", "b2", "between"].map(|name| format!("{}/{name}", self.head.output))
    }
}

/// The graph with `heads`, or `None` if it is built differently. `name` maps a decoder's name of an
/// output to that in the graph.
fn merge_graph(message: &[u8], heads: &[Head], name: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    let graph = parse_graph(message)?;
    // Graphs inside nodes may use any value.
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
    // Values that only dropped nodes used. The runtime would warn of them.
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

/// The model with `heads` instead of their parts. `None` if it is not built as described above; it
/// then stays unchanged. `name` maps a decoder's name of an output to that in the graph.
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

#[cfg(test)]
mod tests {
    use face_core::model::Model;
    use face_core::onnx;
    use face_core::session::{self, Options, Runner};

    use super::*;

    #[test]
    fn a_head_has_the_numbers_of_its_parts() {
        let model = Model::find("yunet").expect("`make setup` fetches it");
        let shape = [1, 3, 96, 160];
        let decoder = crate::decoder::create("yunet").expect("there is one");
        let mut runners = [decoder.edit(), None].map(|edit| {
            let options = Options {
                edit,
                ..Default::default()
            };
            let session = session::load(&model, &options).expect("it loads");
            let mut runner = Runner::new(&session, shape).expect("it runs");
            // Something like a texture.
            for (i, value) in runner.input().iter_mut().enumerate() {
                *value = ((i * 7919 % 256) as f32 + (i / 40 % 256) as f32) / 2.0;
            }
            runner.run().expect("it runs");
            runner
        });
        let [merged, separate] = &mut runners;
        assert!(!merged.has_output("cls_8") && !separate.has_output("head_8"));
        for (head, stride) in YUNET.into_iter().zip([8, 16, 32]) {
            let (rows, columns) = (shape[2] / stride, shape[3] / stride);
            let cells = rows * columns;
            let merged = merged
                .output_of(head.output, &[1, 16, rows, columns])
                .expect("merged");
            let mut channel = 0;
            for part in head.parts {
                let alone = separate
                    .output_of(part.output, &[1, cells, part.channels])
                    .expect("as published");
                for (i, &alone) in alone.iter().enumerate() {
                    let value = merged[(channel + i % part.channels) * cells + i / part.channels];
                    let value = match part.sigmoid {
                        true => 1.0 / (1.0 + (-value).exp()),
                        false => value,
                    };
                    assert!(
                        (value - alone).abs() < 1e-5 * alone.abs().max(1.0),
                        "{value} {alone}"
                    );
                }
                channel += part.channels;
            }
        }
    }

    #[test]
    fn only_what_is_understood_is_merged() {
        let model = Model::find("yunet").expect("`make setup` fetches it");
        let bytes = model.read_unchecked().expect("readable");
        let input = &model.descriptor.input;
        let adapted = onnx::adapt(&bytes, &input.name, &input.shape).expect("a model");
        let merge = |model: &[u8]| super::merge(model, &YUNET, str::to_owned);
        let merged = merge(&adapted).expect("well-formed").expect("YuNet");
        assert_eq!(merge(&merged), Ok(None), "it has heads already");
        assert_eq!(super::merge(&adapted, &YUNET, |_| "x".into()), Ok(None));
        // Changes every fiftieth byte. That must neither panic nor hang.
        for i in (0..adapted.len()).step_by(50) {
            let mut damaged = adapted.clone();
            damaged[i] ^= 0x41;
            let _ = merge(&damaged);
        }
        assert!(matches!(
            merge(&adapted[..adapted.len() - 1]),
            Err(OnnxError::Malformed(_))
        ));
    }
}
