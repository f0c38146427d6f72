//! The header of a gallery's file, which may be hostile: reading it takes memory in proportion to
//! its length, and its length is limited.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{OURS, no_gallery};
use crate::gallery::Roll;
use face_meta::names;

/// The longest header that safetensors permits.
pub const MAX_HEADER: usize = 100_000_000;

/// The most tensors, and the most metadata entries, of a file. Ours have two and five, plus notes.
const MAX_ENTRIES: usize = 256;

/// The most dimensions of a tensor's shape.
const MAX_SHAPE: usize = 8;

/// A map of at most [`MAX_ENTRIES`] entries.
struct Limited<K, V>(HashMap<K, V>);

impl<K, V> Default for Limited<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Limited<K, V> {
    fn insert<E: serde::de::Error>(&mut self, key: K, value: V) -> Result<(), E> {
        if self.0.len() >= MAX_ENTRIES {
            return Err(E::custom(format!(
                "more than {MAX_ENTRIES} tensors or metadata entries"
            )));
        }
        self.0.insert(key, value);
        Ok(())
    }
}

impl<'de, K, V> Deserialize<'de> for Limited<K, V>
where
    K: Deserialize<'de> + Eq + Hash,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);
        impl<'de, K, V> Visitor<'de> for Entries<K, V>
        where
            K: Deserialize<'de> + Eq + Hash,
            V: Deserialize<'de>,
        {
            type Value = Limited<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut limited = Limited::default();
                while let Some((key, value)) = map.next_entry()? {
                    limited.insert(key, value)?;
                }
                Ok(limited)
            }
        }
        from.deserialize_map(Entries(PhantomData))
    }
}

/// The shape of a tensor, at most [`MAX_SHAPE`] long.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a shape")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(side) = sides.next_element()? {
                    if shape.len() >= MAX_SHAPE {
                        return Err(A::Error::custom(format!(
                            "a tensor of more than {MAX_SHAPE} dimensions"
                        )));
                    }
                    shape.push(side);
                }
                Ok(Shape(shape))
            }
        }
        from.deserialize_seq(Sides)
    }
}

/// A tensor's entry in the header.
#[derive(serde::Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

impl Info {
    fn to_library(&self) -> TensorInfo {
        TensorInfo {
            dtype: self.dtype,
            shape: self.shape.0.clone(),
            data_offsets: self.data_offsets,
        }
    }
}

/// The header. The rows are still JSON text: with a million rows it has 60 MB.
#[derive(Default)]
pub struct Header<'a> {
    metadata: Limited<Cow<'a, str>, &'a RawValue>,
    tensors: Limited<String, Info>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Header<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Header<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a header")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut header = Header::default();
                while let Some(key) = map.next_key::<Cow<str>>()? {
                    match &*key {
                        "__metadata__" => header.metadata = map.next_value()?,
                        _ => header.tensors.insert(key.into_owned(), map.next_value()?)?,
                    }
                }
                Ok(header)
            }
        }
        from.deserialize_map(Parts)
    }
}

impl<'a> Header<'a> {
    /// The length of the header in a file that begins with these bytes.
    pub fn length(first: [u8; 8]) -> Result<usize, SafeTensorError> {
        usize::try_from(u64::from_le_bytes(first))
            .ok()
            .filter(|length| *length <= MAX_HEADER)
            .ok_or(SafeTensorError::HeaderTooLarge)
    }

    /// Parses the header of a file with `data` bytes after it.
    pub fn parse(text: &'a [u8], data: u64) -> Result<Self, SafeTensorError> {
        let text = str::from_utf8(text).map_err(SafeTensorError::InvalidHeader)?;
        let header: Self =
            serde_json::from_str(text).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
        // The library's own rules: tensors follow each other, have the length that type and shape
        // say, and reach to the end of the file.
        let tensors = header.tensors.0.iter();
        let mut tensors: Vec<_> = tensors
            .map(|(name, info)| (name.clone(), info.to_library()))
            .collect();
        tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
        let end = Metadata::new(None, tensors)?.data_len();
        if end as u64 != data {
            return Err(SafeTensorError::MetadataIncompleteBuffer);
        }
        Ok(header)
    }

    pub fn tensor(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.0.get(name).map(Info::to_library)
    }

    fn raw(&self, key: &str) -> Result<&'a str, String> {
        self.metadata
            .0
            .get(key)
            .map(|value| value.get())
            .ok_or_else(|| no_gallery(format!("no `{key}` in its metadata")))
    }

    pub fn value(&self, key: &str) -> Result<String, String> {
        serde_json::from_str(self.raw(key)?).map_err(no_gallery)
    }

    /// The value of a key that need not be there.
    pub fn optional(&self, key: &str) -> Result<Option<String>, String> {
        let value = self.metadata.0.get(key);
        let text = value.map(|value| serde_json::from_str(value.get()));
        text.transpose().map_err(no_gallery)
    }

    /// The metadata entries that are not ours.
    pub fn notes(&self) -> Result<BTreeMap<String, String>, String> {
        let others = self
            .metadata
            .0
            .keys()
            .filter(|key| !OURS.contains(&&***key));
        others
            .map(|key| Ok((key.to_string(), self.value(key)?)))
            .collect()
    }

    /// The people and sources of the rows. There must be `count`.
    pub fn roll(&self, count: usize) -> Result<Roll, String> {
        match RollReader::read_ours(self.raw("rows")?, count) {
            Some(roll) => Ok(roll),
            None => RollReader::read_any(&self.value("rows")?),
        }
    }
}

/// A row in the file.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct RowText<'a> {
    #[serde(borrow)]
    pub person: Cow<'a, str>,
    #[serde(borrow)]
    pub source: Cow<'a, str>,
}

/// Adds rows. Looks people up by borrowed text.
#[derive(Default)]
pub struct RollReader<'a> {
    roll: Roll,
    /// By their normal names.
    index: HashMap<Cow<'a, str>, u32>,
    last: Option<(&'a str, u32)>,
}

impl<'a> RollReader<'a> {
    /// `None` if numbers overflow, which cannot happen in a header of at most [`MAX_HEADER`].
    fn add(&mut self, person: &'a str, source: &str) -> Option<()> {
        // Rows of one person are mostly adjacent.
        let index = match self.last {
            Some((last, index)) if last == person => index,
            _ => {
                let name = names::normal(person);
                match self.index.get(&*name) {
                    Some(&index) => index,
                    None => {
                        let index = u32::try_from(self.roll.people.len()).ok()?;
                        self.roll.add_person(&name);
                        self.index.insert(name, index);
                        index
                    }
                }
            }
        };
        self.last = Some((person, index));
        let end = u32::try_from(self.roll.sources.len() + source.len()).ok()?;
        self.roll.add_row(index, source, end);
        Some(())
    }

    /// Parses rows as we write them, without escapes in names and sources: JSON inside a JSON
    /// string, in one pass and without copies. `None` if they are written differently.
    pub fn read_ours(literal: &'a str, count: usize) -> Option<Roll> {
        const PERSON: &str = r#"{\"person\":\""#;
        const SOURCE: &str = r#"\",\"source\":\""#;
        const END: &str = r#"\"}"#;
        let mut reader = Self::default();
        // The offsets of a damaged header may claim anything.
        let count = count.min(literal.len() / (PERSON.len() + SOURCE.len() + END.len()));
        reader.roll.person.reserve(count);
        reader.roll.ends.reserve(count);
        let mut rest = literal.strip_prefix("\"[")?.strip_suffix("]\"")?;
        while !rest.is_empty() {
            rest = rest.strip_prefix(PERSON)?;
            let (person, behind) = rest.split_at(rest.find('\\')?);
            rest = behind.strip_prefix(SOURCE)?;
            let (source, behind) = rest.split_at(rest.find('\\')?);
            rest = behind.strip_prefix(END)?;
            reader.add(person, source)?;
            if let Some(behind) = rest.strip_prefix(',')
                && !behind.is_empty()
            {
                rest = behind;
            } else if !rest.is_empty() {
                return None;
            }
        }
        Some(reader.roll)
    }

    /// Parses rows in any JSON.
    pub fn read_any(json: &str) -> Result<Roll, String> {
        let rows: Vec<RowText> = serde_json::from_str(json).map_err(no_gallery)?;
        let mut reader = RollReader::default();
        for row in &rows {
            reader
                .add(&row.person, &row.source)
                .ok_or_else(|| no_gallery("too many rows"))?;
        }
        Ok(reader.roll)
    }
}
