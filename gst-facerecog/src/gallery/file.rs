//! The gallery's file, one safetensors file.
//!
//! The tensor `embeddings` is float32 [N, D], each row L2-normalised. The file's metadata holds
//! `format` (`gst-face-gallery`), `version`, `model` (its name), `model-sha256` (of its weights) and
//! `rows`, a JSON array of `{"person": …, "source": …}`, one for each row.
//!
//! A large gallery (see [`LARGE`]) also has the tensor `embeddings_i16`, int16 [N, D]: the same numbers
//! times 32767, rounded. It spares a large gallery the conversion: its file is mapped, and both tensors
//! are used where they lie. It is used only if it fits: type, shape and the length of every row are
//! checked, and a sample of rows is compared with `embeddings`; where it does not fit, or is not there,
//! it is computed, like for a small gallery, which is copied to memory and checked number by number.
//!
//! A mapped file must not be cut short while it is in use: that would end the process with SIGBUS. We
//! write a new file and rename it, which leaves a mapping of the old one whole, and so does whoever
//! copies with `mv`, `install` or rsync. A file that is too short when it is opened is an error as
//! always.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use face_core::Error;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Gallery, ModelId, Numbers, Roll, scan, unit};

const FORMAT: &str = "gst-face-gallery";
const VERSION: &str = "1";

/// The metadata that we write.
const OURS: [&str; 5] = ["format", "version", "model", "model-sha256", "rows"];

const EXACT: &str = "embeddings";
const FIXED: &str = "embeddings_i16";

/// Galleries whose `embeddings` have so many bytes (65536 rows of 128) are large.
pub const LARGE: u64 = 32 << 20;

/// The longest header that safetensors permits.
const MAX_HEADER: usize = 100_000_000;

/// Where tensors begin: a multiple of a cache line.
const ALIGNMENT: usize = 64;

/// One in so many rows of `embeddings_i16` is compared with `embeddings`.
const SAMPLE: usize = 1021;

/// What a file holds, either way.
enum Content {
    Copied(Vec<u8>),
    Mapped(Mmap),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl Content {
    /// Maps files of `large` bytes, copies smaller ones.
    fn open(path: &Path, large: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        // Numbers are used as they lie in the file, which is little-endian.
        if cfg!(target_endian = "little") && metadata.is_file() && metadata.len() >= large {
            // SAFETY: the mapping is private and read-only, and only numbers, for which every bit
            // pattern is valid, are kept as references into it; all text is copied. Our own writer never
            // changes a file in place (see above), and the length is checked against what the
            // header says.
            return Ok(Self::Mapped(unsafe { Mmap::map(&file) }?));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Self::Copied(bytes))
    }
}

/// Both tensors in a mapped file.
#[derive(Debug, Clone)]
pub struct MappedNumbers {
    map: Arc<Mmap>,
    exact: Range<usize>,
    fixed: Range<usize>,
}

impl MappedNumbers {
    /// `None` if the stored 16-bit numbers are not those of the embeddings, or lie askew.
    fn new(
        map: Arc<Mmap>,
        exact: Range<usize>,
        fixed: Range<usize>,
        dimensions: usize,
    ) -> Option<Self> {
        let exact_numbers = bytemuck::try_cast_slice::<u8, f32>(&map[exact.clone()]).ok()?;
        let fixed_numbers = bytemuck::try_cast_slice::<u8, i16>(&map[fixed.clone()]).ok()?;
        let mut pairs = exact_numbers
            .chunks_exact(dimensions)
            .zip(fixed_numbers.chunks_exact(dimensions))
            .step_by(SAMPLE);
        let fits = pairs.all(|(exact, fixed)| {
            let is_unit = (scan::similarity(exact, exact) - 1.0).abs() < 1e-5;
            is_unit
                && exact
                    .iter()
                    .map(|v| scan::fixed(*v))
                    .eq(fixed.iter().copied())
        });
        if !fits || !scan::all_unit(fixed_numbers, dimensions) {
            return None;
        }
        // What a search does not read again, header and sample, need not stay in memory.
        #[cfg(unix)]
        // SAFETY: dropped pages of a read-only mapping of a file are read again from the file when they
        // are needed. If the system refuses, they stay.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, exact.end) };
        Some(Self { map, exact, fixed })
    }

    /// Alignment and length were checked when this was made, so that the casts succeed.
    pub fn exact(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.exact.clone()])
    }

    pub fn fixed(&self) -> &[i16] {
        bytemuck::cast_slice(&self.map[self.fixed.clone()])
    }
}

/// The header, in which the rows are still text of JSON: with a million rows it has 60 MB.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, default, rename = "__metadata__")]
    metadata: HashMap<Cow<'a, str>, &'a RawValue>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}

/// The header in an order of its own, so that equal galleries are equal files. (The library's own has a
/// hash map.)
#[derive(Serialize)]
struct WrittenHeader<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

#[derive(Serialize, Deserialize)]
struct RowText<'a> {
    #[serde(borrow)]
    person: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
}

fn no_gallery(cause: impl std::fmt::Display) -> String {
    format!("not a gallery: {cause}")
}

impl<'a> Header<'a> {
    /// The header of a whole file, and where the tensors begin.
    fn parse(bytes: &'a [u8]) -> Result<(Self, usize), SafeTensorError> {
        let (&length, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or(SafeTensorError::HeaderTooSmall)?;
        let length = usize::try_from(u64::from_le_bytes(length))
            .ok()
            .filter(|length| *length <= MAX_HEADER)
            .ok_or(SafeTensorError::HeaderTooLarge)?;
        let text = rest
            .get(..length)
            .ok_or(SafeTensorError::InvalidHeaderLength)?;
        let text = str::from_utf8(text).map_err(SafeTensorError::InvalidHeader)?;
        let header: Self =
            serde_json::from_str(text).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
        // The library's own rules: tensors that follow each other, as long as type and shape say, up to
        // the end of the file.
        let copy = |(name, t): (&String, &TensorInfo)| {
            let info = TensorInfo {
                dtype: t.dtype,
                shape: t.shape.clone(),
                data_offsets: t.data_offsets,
            };
            (name.clone(), info)
        };
        let mut tensors: Vec<_> = header.tensors.iter().map(copy).collect();
        tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
        let end = Metadata::new(None, tensors)?.data_len();
        if end != rest.len() - length {
            return Err(SafeTensorError::MetadataIncompleteBuffer);
        }
        Ok((header, 8 + length))
    }

    fn raw(&self, key: &str) -> Result<&'a str, String> {
        self.metadata
            .get(key)
            .map(|value| value.get())
            .ok_or_else(|| no_gallery(format!("no `{key}` in its metadata")))
    }

    fn value(&self, key: &str) -> Result<String, String> {
        serde_json::from_str(self.raw(key)?).map_err(no_gallery)
    }

    /// The metadata that is not ours.
    fn notes(&self) -> Result<BTreeMap<String, String>, String> {
        let others = self.metadata.keys().filter(|key| !OURS.contains(&&***key));
        others
            .map(|key| Ok((key.to_string(), self.value(key)?)))
            .collect()
    }
}

/// Adds rows; people are looked up by text that is borrowed.
#[derive(Default)]
struct RollReader<'a> {
    roll: Roll,
    index: HashMap<&'a str, u32>,
    last: Option<(&'a str, u32)>,
}

impl<'a> RollReader<'a> {
    /// `None` where numbers overflow, which they do not in a header of at most [`MAX_HEADER`].
    fn add(&mut self, person: &'a str, source: &str) -> Option<()> {
        // Rows of one person mostly stand together.
        let index = match self.last {
            Some((last, index)) if last == person => index,
            _ => match self.index.get(person) {
                Some(&index) => index,
                None => {
                    let index = u32::try_from(self.roll.people.len()).ok()?;
                    self.index.insert(person, index);
                    self.roll.add_person(person);
                    index
                }
            },
        };
        self.last = Some((person, index));
        let end = u32::try_from(self.roll.sources.len() + source.len()).ok()?;
        self.roll.add_row(index, source, end);
        Some(())
    }

    /// Reads the rows as we write them, without escapes in names and sources: JSON inside a JSON string,
    /// in one pass and without copies. `None` if they are written in another way.
    fn read_ours(literal: &'a str, count: usize) -> Option<Roll> {
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

    /// Reads any JSON.
    fn read_any(json: &str) -> Result<Roll, String> {
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

/// Reads a gallery; files of `large` bytes are mapped.
pub fn read(path: &Path, large: u64) -> Result<Gallery, Error> {
    let content = Content::open(path, large).map_err(|e| match Error::reading(path, e) {
        Error::NotFound(what) => Error::NotFound(format!(
            "gallery {what}; make one with `facepipe enroll PEOPLE_DIR -o {}`",
            path.display()
        )),
        other => other,
    })?;
    parse(content).map_err(|cause| {
        Error::invalid(
            path,
            format!("{cause}; make the gallery anew with `facepipe enroll PEOPLE_DIR -o FILE`"),
        )
    })
}

fn parse(content: Content) -> Result<Gallery, String> {
    let (header, start) = Header::parse(&content).map_err(no_gallery)?;
    if header.value("format")? != FORMAT {
        return Err(no_gallery(format!("its format is not {FORMAT}")));
    }
    let version = header.value("version")?;
    if version != VERSION {
        return Err(format!(
            "a gallery of format version {version}, this program reads version {VERSION}"
        ));
    }
    let tensor = |name| header.tensors.get(name);
    let range = |tensor: &TensorInfo| {
        let (first, last) = tensor.data_offsets;
        start + first..start + last
    };
    let exact = tensor(EXACT)
        .ok_or_else(|| no_gallery(SafeTensorError::TensorNotFound(EXACT.to_owned())))?;
    let &[count, dimensions] = exact.shape.as_slice() else {
        return Err(no_gallery(format!("`{EXACT}` is not a matrix")));
    };
    let rows = header.raw("rows")?;
    let roll = match RollReader::read_ours(rows, count) {
        Some(roll) => roll,
        None => RollReader::read_any(&header.value("rows")?)?,
    };
    if exact.dtype != Dtype::F32 || count != roll.len() || dimensions == 0 {
        return Err(no_gallery(format!(
            "`{EXACT}` is {:?} {:?}, expected F32 [{}, D]",
            exact.dtype,
            exact.shape,
            roll.len()
        )));
    }
    let fixed = tensor(FIXED)
        .filter(|fixed| fixed.dtype == Dtype::I16 && fixed.shape == exact.shape)
        .map(range);
    let exact = range(exact);
    let model = ModelId {
        name: header.value("model")?,
        sha256: header.value("model-sha256")?,
    };
    let notes = header.notes()?;
    drop(header);
    let numbers = numbers(content, exact, fixed, dimensions).map_err(|row| {
        let person = roll.person(row);
        format!("damaged: a row of {person:?} has no direction")
    })?;
    let gallery = Gallery {
        model,
        notes,
        dimensions,
        roll,
        numbers,
        images: OnceLock::new(),
    };
    // Not while a stream plays.
    gallery.find_images();
    Ok(gallery)
}

/// The mapped numbers if they can be used as they are, else copies. Fails with the number of a row
/// without direction.
fn numbers(
    content: Content,
    exact: Range<usize>,
    fixed: Option<Range<usize>>,
    dimensions: usize,
) -> Result<Numbers, usize> {
    let copied = |bytes: &[u8]| -> Result<Numbers, usize> {
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut owned = (
            Vec::with_capacity(numbers.len()),
            Vec::with_capacity(numbers.len()),
        );
        let mut row = Vec::with_capacity(dimensions);
        for (i, numbers) in numbers.chunks_exact(dimensions).enumerate() {
            row.clear();
            row.extend(numbers.iter().map(|&b| f32::from_le_bytes(b)));
            // So that a gallery that is read and written again keeps its numbers.
            let unit = unit(&row).ok_or(i)?;
            owned.1.extend(unit.iter().map(|v| scan::fixed(*v)));
            owned.0.extend(unit);
        }
        let (exact, fixed) = owned;
        Ok(Numbers::Owned { exact, fixed })
    };
    match (content, fixed) {
        (Content::Mapped(map), Some(fixed)) => {
            let map = Arc::new(map);
            match MappedNumbers::new(Arc::clone(&map), exact.clone(), fixed, dimensions) {
                Some(mapped) => Ok(Numbers::Mapped(mapped)),
                None => copied(&map[exact]),
            }
        }
        (content, _) => copied(&content[exact]),
    }
}

/// Writes a gallery; one of `large` bytes with its 16-bit numbers.
pub fn write(gallery: &Gallery, path: &Path, large: u64) -> Result<(), Error> {
    let failed = |cause: io::Error| Error::Unwritable {
        path: path.to_owned(),
        cause,
    };
    let exact = gallery.numbers.exact();
    let mut fixed = gallery.numbers.fixed();
    if (size_of_val(exact) as u64) < large {
        fixed = &[];
    }
    let header = header(gallery, !fixed.is_empty()).map_err(failed)?;
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    let written = writer
        .write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| writer.write_all(&header))
        .and_then(|()| write_numbers(&mut writer, exact, |v| v.to_le_bytes()))
        .and_then(|()| write_numbers(&mut writer, fixed, |v| v.to_le_bytes()))
        .and_then(|()| writer.flush());
    drop(writer);
    written.map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

fn write_numbers<T: Copy, const N: usize>(
    writer: &mut impl Write,
    numbers: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut bytes = Vec::new();
    for numbers in numbers.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(numbers.iter().flat_map(|v| to_bytes(*v)));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

fn header(gallery: &Gallery, with_fixed: bool) -> io::Result<Vec<u8>> {
    let rows: Vec<RowText> = (0..gallery.len())
        .map(|row| RowText {
            person: gallery.roll.person(row).into(),
            source: gallery.roll.source(row).into(),
        })
        .collect();
    let rows = serde_json::to_string(&rows)?;
    let ours = [
        FORMAT,
        VERSION,
        &gallery.model.name,
        &gallery.model.sha256,
        &rows,
    ];
    let notes = gallery.notes.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let numbers = gallery.len() * gallery.dimensions;
    let info = |dtype, first, last| TensorInfo {
        dtype,
        shape: vec![gallery.len(), gallery.dimensions],
        data_offsets: (first, last),
    };
    let mut tensors = BTreeMap::from([(EXACT, info(Dtype::F32, 0, 4 * numbers))]);
    if with_fixed {
        tensors.insert(FIXED, info(Dtype::I16, 4 * numbers, 6 * numbers));
    }
    let mut header = serde_json::to_vec(&WrittenHeader {
        metadata: notes.chain(OURS.into_iter().zip(ours)).collect(),
        tensors,
    })?;
    let start = (8 + header.len()).next_multiple_of(ALIGNMENT);
    header.resize(start - 8, b' ');
    if header.len() > MAX_HEADER {
        return Err(io::Error::other(format!(
            "the names and sources of {} rows need {} bytes, the file's format permits {MAX_HEADER}: \
             shorten them, or divide the gallery",
            gallery.len(),
            header.len()
        )));
    }
    Ok(header)
}

#[cfg(test)]
mod tests;
