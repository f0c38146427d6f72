//! Gives a graph that takes its channels last (N, H, W, 3) an input with one plane per channel
//! (N, 3, H, W), which is how pictures are sampled: a transposition in front of it.

use super::protobuf::{TYPE_INTS, field, name, put_bytes, put_integer};
use super::{Fields, OnnxError, edited, with_shape, wrapped};
use crate::model::Dimension;

/// The axes of (N, 3, H, W) in the order N, H, W, 3.
const CHANNELS_LAST: [u64; 4] = [0, 2, 3, 1];

/// The node that turns `from` into `to`.
fn transposition(from: &str, to: &str) -> Vec<u8> {
    let mut order = Vec::new();
    put_bytes(&mut order, field::ATTRIBUTE_NAME, b"perm");
    put_integer(&mut order, field::ATTRIBUTE_TYPE, TYPE_INTS);
    for axis in CHANNELS_LAST {
        put_integer(&mut order, field::ATTRIBUTE_INTS, axis);
    }
    let mut node = Vec::new();
    put_bytes(&mut node, field::NODE_INPUT, from.as_bytes());
    put_bytes(&mut node, field::NODE_OUTPUT, to.as_bytes());
    put_bytes(&mut node, field::NODE_OP_TYPE, b"Transpose");
    put_bytes(&mut node, field::NODE_ATTRIBUTE, &order);
    node
}

/// The model whose input `last` has its channels last, with the input `planar` of `shape`
/// (N, 3, H, W) instead.
pub fn planar(
    model: &[u8],
    last: &str,
    planar: &str,
    shape: &[Dimension],
) -> Result<Vec<u8>, OnnxError> {
    edited(model, field::MODEL_GRAPH, |graph| {
        // Nodes are in the order in which they run: this one comes first.
        let node = transposition(planar, last);
        let mut out = wrapped(field::GRAPH_NODE, &node).into_owned();
        out.reserve(graph.len());
        for field in Fields(graph) {
            let field = field?;
            if field.number == field::GRAPH_INPUT && name(field.payload, field::VALUE_NAME)? == last
            {
                let info = with_shape(field.payload, Some(shape))?;
                let info = edited(&info, field::VALUE_NAME, |_| Ok(planar.into()))?;
                out.extend_from_slice(&wrapped(field.number, &info));
            } else {
                out.extend_from_slice(field.whole);
            }
        }
        Ok(out)
    })
}
