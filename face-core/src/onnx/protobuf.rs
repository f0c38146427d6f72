//! The encoding of ONNX files: just what taking messages apart and putting them together needs.

use super::OnnxError;

/// One field of a protobuf message.
pub struct Field<'a> {
    pub number: u32,
    /// Tag and payload as they stand.
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

pub fn put_bytes(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// The UTF-8 name in field `number` of `message`; empty if there is none.
pub fn name(message: &[u8], number: u32) -> Result<String, OnnxError> {
    for field in Fields(message) {
        let field = field?;
        if field.number == number {
            return String::from_utf8(field.payload.to_vec())
                .map_err(|_| OnnxError::Malformed("a name is not UTF-8"));
        }
    }
    Ok(String::new())
}
