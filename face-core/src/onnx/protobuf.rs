//! The encoding of ONNX files: just enough to take messages apart and put them together.

use super::OnnxError;

/// Field numbers of `onnx.proto`.
pub mod field {
    pub const MODEL_GRAPH: u32 = 7;
    pub const GRAPH_NODE: u32 = 1;
    pub const GRAPH_INITIALIZER: u32 = 5;
    pub const GRAPH_INPUT: u32 = 11;
    pub const GRAPH_OUTPUT: u32 = 12;
    pub const GRAPH_VALUE_INFO: u32 = 13;
    pub const NODE_INPUT: u32 = 1;
    pub const NODE_OUTPUT: u32 = 2;
    pub const NODE_OP_TYPE: u32 = 4;
    pub const NODE_ATTRIBUTE: u32 = 5;
    pub const NODE_DOMAIN: u32 = 7;
    pub const ATTRIBUTE_NAME: u32 = 1;
    pub const ATTRIBUTE_I: u32 = 3;
    pub const ATTRIBUTE_G: u32 = 6;
    pub const ATTRIBUTE_INTS: u32 = 8;
    pub const ATTRIBUTE_GRAPHS: u32 = 11;
    pub const ATTRIBUTE_TYPE: u32 = 20;
    pub const TENSOR_DIMS: u32 = 1;
    pub const TENSOR_DATA_TYPE: u32 = 2;
    pub const TENSOR_FLOAT_DATA: u32 = 4;
    pub const TENSOR_NAME: u32 = 8;
    pub const TENSOR_RAW_DATA: u32 = 9;
    pub const VALUE_NAME: u32 = 1;
    pub const VALUE_TYPE: u32 = 2;
    pub const TYPE_TENSOR: u32 = 1;
    pub const TENSOR_TYPE_ELEMENT: u32 = 1;
    pub const TENSOR_TYPE_SHAPE: u32 = 2;
    pub const SHAPE_DIM: u32 = 1;
    pub const DIM_VALUE: u32 = 1;
    pub const DIM_PARAM: u32 = 2;
}

/// Of `TensorProto.DataType`.
pub const FLOAT: u64 = 1;

/// Of `AttributeProto.AttributeType`.
pub const TYPE_INT: u64 = 2;
pub const TYPE_INTS: u64 = 7;

/// One field of a protobuf message.
pub struct Field<'a> {
    pub number: u32,
    /// Tag and payload, unchanged.
    pub whole: &'a [u8],
    /// The payload of a length-delimited field, empty for the others.
    pub payload: &'a [u8],
    /// The payload of a varint field, 0 for the others.
    pub value: u64,
}

/// Iterates over the fields of one protobuf message.
pub struct Fields<'a>(pub &'a [u8]);

pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

impl<'a> Fields<'a> {
    fn parse(&mut self) -> Option<Field<'a>> {
        let start = self.0;
        let mut rest = start;
        let tag = varint(&mut rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|&n| n > 0)?;
        let mut value = 0;
        let payload = match tag & 7 {
            0 => {
                value = varint(&mut rest)?;
                &[]
            }
            1 => {
                rest = rest.get(8..)?;
                &[]
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let payload = rest.get(..length)?;
                rest = &rest[length..];
                payload
            }
            5 => {
                rest = rest.get(4..)?;
                &[]
            }
            _ => return None,
        };
        self.0 = rest;
        Some(Field {
            number,
            whole: &start[..start.len() - rest.len()],
            payload,
            value,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.parse();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(OnnxError::Malformed("a field is cut short")))
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_integer(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

pub fn put_bytes(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// The payload of the first field `number` of `message`; empty if there is none.
pub fn payload(message: &[u8], number: u32) -> Result<&[u8], OnnxError> {
    for field in Fields(message) {
        let field = field?;
        if field.number == number {
            return Ok(field.payload);
        }
    }
    Ok(&[])
}

/// The same, as a string.
pub fn name(message: &[u8], number: u32) -> Result<String, OnnxError> {
    String::from_utf8(payload(message, number)?.to_vec())
        .map_err(|_| OnnxError::Malformed("a name is not UTF-8"))
}
