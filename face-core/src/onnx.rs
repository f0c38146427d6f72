//! Edits that a published ONNX graph needs before it is loaded.
//!
//! Some models fix the size of their input although their graph does not need it (YuNet). Some list
//! their weights as graph inputs, which prevents constant folding (SFace, CenterFace). Both are
//! corrected in memory; the published file stays unchanged. Only the messages on the way to the
//! graph's inputs and outputs are parsed (field numbers: `onnx.proto`). Everything else is copied
//! byte by byte, so unknown fields survive.

use std::borrow::Cow;
use std::collections::HashSet;

use self::protobuf::{FLOAT, Fields, field, name, put_bytes, put_integer, put_varint};
use crate::model::Dimension;

mod planar;
pub mod protobuf;

pub use planar::planar;

/// Why a file is not an ONNX model that can be adapted.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OnnxError {
    #[error("not an ONNX model, or a damaged one ({0}); fetch the file again")]
    Malformed(&'static str),
    #[error(
        "the graph has no input named {name:?}; correct `input.name` in the descriptor: its inputs \
         are {found:?}"
    )]
    NoInput { name: String, found: Vec<String> },
    #[error("the graph has inputs besides {name:?} that nothing fills: {others:?}")]
    MoreInputs { name: String, others: Vec<String> },
}

/// Copies `message`, replacing the payload of the field `number` with the result of `edit`.
fn edited(
    message: &[u8],
    number: u32,
    edit: impl Fn(&[u8]) -> Result<Vec<u8>, OnnxError>,
) -> Result<Vec<u8>, OnnxError> {
    let mut out = Vec::with_capacity(message.len());
    let mut found = false;
    for field in Fields(message) {
        let field = field?;
        if field.number == number {
            // A thousand types would mean a thousand shapes, however small the file.
            if std::mem::replace(&mut found, true) {
                return Err(OnnxError::Malformed("an input or output has several types"));
            }
            put_bytes(&mut out, number, &edit(field.payload)?);
        } else {
            out.extend_from_slice(field.whole);
        }
    }
    Ok(out)
}

/// Copies the value info with another shape, or without one (to be inferred).
fn with_shape(value_info: &[u8], shape: Option<&[Dimension]>) -> Result<Vec<u8>, OnnxError> {
    edited(value_info, field::VALUE_TYPE, |kind| {
        edited(kind, field::TYPE_TENSOR, |tensor| {
            let mut out = Vec::with_capacity(tensor.len());
            for field in Fields(tensor) {
                let field = field?;
                if field.number != field::TENSOR_TYPE_SHAPE {
                    out.extend_from_slice(field.whole);
                }
            }
            if let Some(shape) = shape {
                let mut dims = Vec::new();
                for dimension in shape {
                    let mut dim = Vec::new();
                    match dimension {
                        Dimension::Fixed(size) => {
                            put_integer(&mut dim, field::DIM_VALUE, u64::from(*size));
                        }
                        Dimension::Symbol(symbol) => {
                            put_bytes(&mut dim, field::DIM_PARAM, symbol.as_bytes());
                        }
                    }
                    put_bytes(&mut dims, field::SHAPE_DIM, &dim);
                }
                put_bytes(&mut out, field::TENSOR_TYPE_SHAPE, &dims);
            }
            Ok(out)
        })
    })
}

/// The value info of a float output whose shape is inferred.
pub fn float_output(name: &str) -> Vec<u8> {
    let mut tensor = Vec::new();
    put_integer(&mut tensor, field::TENSOR_TYPE_ELEMENT, FLOAT);
    let mut kind = Vec::new();
    put_bytes(&mut kind, field::TYPE_TENSOR, &tensor);
    let mut info = Vec::new();
    put_bytes(&mut info, field::VALUE_NAME, name.as_bytes());
    put_bytes(&mut info, field::VALUE_TYPE, &kind);
    info
}

fn wrapped(number: u32, payload: &[u8]) -> Cow<'static, [u8]> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, payload);
    Cow::Owned(out)
}

/// The pieces of the adapted graph. The weights are not moved.
fn adapt_graph<'a>(
    graph: &'a [u8],
    input: &str,
    shape: &[Dimension],
) -> Result<Vec<Cow<'a, [u8]>>, OnnxError> {
    let mut weights = HashSet::new();
    for field in Fields(graph) {
        let field = field?;
        if field.number == field::GRAPH_INITIALIZER {
            weights.insert(name(field.payload, field::TENSOR_NAME)?);
        }
    }
    let mut pieces = Vec::new();
    let mut found = Vec::new();
    // A run of fields to copy unchanged. It becomes one piece, however many fields it has.
    let mut copied = 0..0;
    for field in Fields(graph) {
        let field = field?;
        let end = copied.end + field.whole.len();
        let piece = match field.number {
            field::GRAPH_INPUT => {
                let name = name(field.payload, field::VALUE_NAME)?;
                if weights.contains(&name) {
                    None
                } else {
                    let is_image = name == input;
                    found.push(name);
                    match is_image {
                        true => Some(with_shape(field.payload, Some(shape))?),
                        false => None,
                    }
                }
            }
            field::GRAPH_OUTPUT => Some(with_shape(field.payload, None)?),
            // Shapes of inner tensors would contradict the new input. The runtime infers them.
            field::GRAPH_VALUE_INFO => None,
            _ => {
                copied.end = end;
                continue;
            }
        };
        pieces.push(Cow::Borrowed(&graph[copied]));
        pieces.extend(piece.map(|payload| wrapped(field.number, &payload)));
        copied = end..end;
    }
    pieces.push(Cow::Borrowed(&graph[copied]));
    if !found.iter().any(|n| n == input) {
        return Err(OnnxError::NoInput {
            name: input.into(),
            found,
        });
    }
    if found.len() > 1 {
        found.retain(|n| n != input);
        return Err(OnnxError::MoreInputs {
            name: input.into(),
            others: found,
        });
    }
    Ok(pieces)
}

/// Returns the model with the shape of its image input replaced by `shape`. Its weights are no
/// longer graph inputs, and every other shape is inferred.
pub fn adapt(model: &[u8], input: &str, shape: &[Dimension]) -> Result<Vec<u8>, OnnxError> {
    let mut out = Vec::with_capacity(model.len() + 256);
    let mut graphs = 0;
    for field in Fields(model) {
        let field = field?;
        if field.number == field::MODEL_GRAPH {
            graphs += 1;
            let pieces = adapt_graph(field.payload, input, shape)?;
            put_varint(&mut out, u64::from(field.number) << 3 | 2);
            put_varint(&mut out, pieces.iter().map(|p| p.len() as u64).sum());
            for piece in pieces {
                out.extend_from_slice(&piece);
            }
        } else {
            out.extend_from_slice(field.whole);
        }
    }
    match graphs {
        1 => Ok(out),
        0 => Err(OnnxError::Malformed("it has no graph")),
        _ => Err(OnnxError::Malformed("it has several graphs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_info(name: &str, dims: &[u32]) -> Vec<u8> {
        let shape: Vec<_> = dims.iter().copied().map(Dimension::Fixed).collect();
        with_shape(&float_output(name), Some(&shape)).expect("well-formed")
    }

    fn model(inputs: &[&str]) -> Vec<u8> {
        let mut graph = Vec::new();
        let mut weight = Vec::new();
        put_bytes(&mut weight, field::TENSOR_NAME, b"w");
        put_bytes(&mut graph, field::GRAPH_INITIALIZER, &weight);
        for name in inputs {
            put_bytes(
                &mut graph,
                field::GRAPH_INPUT,
                &value_info(name, &[1, 3, 640, 640]),
            );
        }
        put_bytes(
            &mut graph,
            field::GRAPH_OUTPUT,
            &value_info("y", &[1, 80, 80]),
        );
        put_bytes(
            &mut graph,
            field::GRAPH_VALUE_INFO,
            &value_info("inner", &[1, 8]),
        );
        put_bytes(&mut graph, 99, b"a field of the future");
        let mut model = Vec::new();
        put_varint(&mut model, 1 << 3); // ir_version
        put_varint(&mut model, 6);
        put_bytes(&mut model, field::MODEL_GRAPH, &graph);
        model
    }

    fn shape() -> Vec<Dimension> {
        vec![Dimension::Symbol("N".into()), Dimension::Fixed(3)]
    }

    #[test]
    fn weights_leave_the_inputs_and_the_shape_changes() {
        let adapted = adapt(&model(&["x", "w"]), "x", &shape()).expect("a well-formed model");
        let holds = |needle: &[u8]| adapted.windows(needle.len()).any(|w| w == needle);
        assert!(holds(b"a field of the future"));
        assert!(!holds(b"inner"));
        // Symbol dimension: field 2 (0x12), length 1, "N"; fixed: field 1 (0x08), 3.
        assert!(holds(&[0x12, 1, b'N']) && holds(&[0x08, 3]));
        assert!(!holds(&[0x08, 0x80, 5]), "640 stands in no shape any more");
        let again = adapt(&adapted, "x", &shape()).expect("an adapted model");
        assert_eq!(adapted, again, "adapting twice changes nothing");
    }

    #[test]
    fn an_input_has_one_type() {
        let mut info = value_info("x", &[1, 3]);
        let again = info[3..].to_vec();
        info.extend(again.repeat(1000));
        let mut graph = Vec::new();
        put_bytes(&mut graph, field::GRAPH_INPUT, &info);
        let mut model = Vec::new();
        put_bytes(&mut model, field::MODEL_GRAPH, &graph);
        let error = adapt(&model, "x", &shape()).expect_err("a thousand types");
        assert!(error.to_string().contains("several types"), "{error}");
    }

    #[test]
    fn wrong_inputs_are_named() {
        assert_eq!(
            adapt(&model(&["a"]), "x", &shape()),
            Err(OnnxError::NoInput {
                name: "x".into(),
                found: vec!["a".into()]
            })
        );
        assert_eq!(
            adapt(&model(&["x", "mask"]), "x", &shape()),
            Err(OnnxError::MoreInputs {
                name: "x".into(),
                others: vec!["mask".into()]
            })
        );
    }

    #[test]
    fn damage_is_an_error_at_every_byte() {
        let whole = model(&["x", "w"]);
        for cut in 0..whole.len() {
            assert!(adapt(&whole[..cut], "x", &shape()).is_err(), "cut at {cut}");
        }
        for i in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[i] ^= 1 << bit;
                let _ = adapt(&flipped, "x", &shape()); // must neither panic nor hang
            }
        }
    }
}
