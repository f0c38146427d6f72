//! The gallery's file, in safetensors format.
//!
//! The tensor `embeddings` is float32 [N, D], each row L2-normalised. The file's metadata holds
//! `format` (`gst-face-gallery`), `version`, `model` (its name), `model-sha256` (of its weights)
//! and `rows`, a JSON array of `{"person": …, "source": …}` with one element per row.
//!
//! A large gallery (see [`LARGE`]) also has the tensor `embeddings_i16`, int16 [N, D]: the same
//! numbers times 32767, rounded. They save the conversion: the gallery keeps them in memory and its
//! file open, and reads from the file the few exact rows that a search needs. They are used only if
//! they fit `embeddings`: type, shape and the length of every row are checked, and a sample of rows
//! is compared. If they do not fit or are missing, they are computed, as for a small gallery, whose
//! numbers are all in memory.
//!
//! Faces that are not to be named are in the tensor `strangers`, float32 [S, D], and their sources in
//! the metadata `strangers`, a JSON array of S strings. Earlier versions pass over both. (If one of
//! them writes the gallery again, the tensor is lost, and the sources without it are ignored.)
//!
//! Changing or truncating a file in place costs only precision: where exact rows are gone or have
//! changed, the 16-bit numbers replace them. Our own writer makes a new file and renames it, so the
//! open one stays whole.

mod header;
mod numbers;

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use face_core::Error;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensorError};
use serde::Serialize;

use super::{Gallery, MOST_STRANGERS, ModelId, Numbers, Strangers};
#[cfg(test)]
use header::RollReader;
use header::{Header, MAX_HEADER, RowText};
pub use numbers::FiledNumbers;

const FORMAT: &str = "gst-face-gallery";
const VERSION: &str = "1";

/// The metadata that we write.
const OURS: [&str; 6] = [
    "format",
    "version",
    "model",
    "model-sha256",
    "rows",
    STRANGERS,
];

const EXACT: &str = "embeddings";
const FIXED: &str = "embeddings_i16";
/// A tensor, and the metadata about it.
const STRANGERS: &str = "strangers";

/// Galleries are large if their `embeddings` have at least this many bytes (65536 rows of 128).
pub const LARGE: u64 = 32 << 20;

/// The most dimensions that an embedding may have.
const MAX_DIMENSIONS: usize = 8192;

/// The alignment of tensors: a multiple of a cache line.
const ALIGNMENT: usize = 64;

/// Identifies the content of a file. It changes with every change of the file, except those made to
/// go unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub device: u64,
    pub inode: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub size: u64,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        }
    }
}

/// Why a file cannot be read.
enum Read {
    Io(io::Error),
    /// It is not a gallery.
    Content(String),
    /// A row has no direction.
    NoDirection(usize),
}

impl From<io::Error> for Read {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::Content("not a gallery: it was cut short while it was read".into())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<String> for Read {
    fn from(cause: String) -> Self {
        Self::Content(cause)
    }
}

/// Where the embeddings lie in a file, in bytes from its start.
struct Tensors {
    count: usize,
    dimensions: usize,
    exact: u64,
    fixed: Option<u64>,
}

/// The header in a fixed order, so that equal galleries make equal files. (The library's own uses a
/// hash map.)
#[derive(Serialize)]
struct WrittenHeader<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

fn no_gallery(cause: impl std::fmt::Display) -> String {
    format!("not a gallery: {cause}")
}

/// Opens a regular file: reading a pipe or a device might never end.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Checked before opening, since opening a pipe waits for its writer.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Reads a gallery, and returns the stamp of the content read. From `large` bytes on, the exact
/// numbers stay in the file.
pub fn read(path: &Path, large: u64) -> Result<(Gallery, Stamp), Error> {
    let unreadable = |e| match Error::reading(path, e) {
        Error::NotFound(what) => Error::NotFound(format!(
            "gallery {what}; make one with `facepipe enroll PEOPLE_DIR -o {}`",
            path.display()
        )),
        other => other,
    };
    let invalid = |cause: String| {
        Error::invalid(
            path,
            format!("{cause}; recreate the gallery with `facepipe enroll PEOPLE_DIR -o FILE`"),
        )
    };
    let (file, metadata) = open(path).map_err(unreadable)?;
    let stamp = Stamp::of(&metadata);
    let gallery = parse(&file, metadata.len(), large).map_err(|error| match error {
        Read::Io(error) => unreadable(error),
        Read::Content(cause) => invalid(cause),
        Read::NoDirection(row) => invalid(format!("damaged: row {row} has no direction")),
    })?;
    // Otherwise half of it may be old and half new.
    if Stamp::of(&file.metadata().map_err(unreadable)?) != stamp {
        return Err(invalid("it was changed while it was read".into()));
    }
    Ok((gallery, stamp))
}

fn parse(file: &File, length: u64, large: u64) -> Result<Gallery, Read> {
    let content = |error| Read::Content(no_gallery(error));
    let mut first = [0; 8];
    if length < first.len() as u64 {
        return Err(content(SafeTensorError::HeaderTooSmall));
    }
    file.read_exact_at(&mut first, 0)?;
    let header_length = Header::length(first).map_err(content)?;
    let start = (first.len() + header_length) as u64;
    // Checked before memory is allocated for data that the file does not have.
    let data = length
        .checked_sub(start)
        .ok_or_else(|| content(SafeTensorError::InvalidHeaderLength))?;
    let mut text = vec![0; header_length];
    file.read_exact_at(&mut text, first.len() as u64)?;
    let header = Header::parse(&text, data).map_err(content)?;
    if header.value("format")? != FORMAT {
        return Err(no_gallery(format!("its format is not {FORMAT}")).into());
    }
    let version = header.value("version")?;
    if version != VERSION {
        return Err(Read::Content(format!(
            "a gallery of format version {version}; this program reads version {VERSION}"
        )));
    }
    let exact = header
        .tensor(EXACT)
        .ok_or_else(|| content(SafeTensorError::TensorNotFound(EXACT.to_owned())))?;
    let &[count, dimensions] = exact.shape.as_slice() else {
        return Err(no_gallery(format!("`{EXACT}` is not a matrix")).into());
    };
    let roll = header.roll(count)?;
    if exact.dtype != Dtype::F32 || count != roll.len() || dimensions == 0 {
        return Err(Read::Content(no_gallery(format!(
            "`{EXACT}` is {:?} {:?}, expected F32 [{}, D]",
            exact.dtype,
            exact.shape,
            roll.len()
        ))));
    }
    if dimensions > MAX_DIMENSIONS {
        return Err(Read::Content(no_gallery(format!(
            "embeddings of {dimensions} dimensions, more than {MAX_DIMENSIONS}"
        ))));
    }
    let offset = |tensor: &TensorInfo| start + tensor.data_offsets.0 as u64;
    let tensors = Tensors {
        count,
        dimensions,
        exact: offset(&exact),
        fixed: header
            .tensor(FIXED)
            .filter(|fixed| fixed.dtype == Dtype::I16 && fixed.shape == exact.shape)
            .map(|fixed| offset(&fixed)),
    };
    let model = ModelId {
        name: header.value("model")?,
        sha256: header.value("model-sha256")?,
    };
    let notes = header.notes()?;
    let strangers = match header.tensor(STRANGERS) {
        Some(tensor) => read_strangers(file, &header, &tensor, dimensions, start)?,
        None => Strangers::default(),
    };
    drop(header);
    drop(text);
    let bytes = exact.data_offsets.1 - exact.data_offsets.0;
    let numbers = match bytes as u64 >= large {
        true => numbers::read_filed(file.try_clone()?, &tensors).map(Numbers::Filed),
        false => {
            numbers::read_both(file, &tensors).map(|(exact, fixed)| Numbers::Owned { exact, fixed })
        }
    };
    let numbers = numbers.map_err(|error| match error {
        Read::NoDirection(row) => Read::Content(format!(
            "damaged: a row of {:?} has no direction",
            roll.person(row)
        )),
        other => other,
    })?;
    let gallery = Gallery {
        model,
        notes,
        dimensions,
        roll,
        numbers,
        strangers,
        images: OnceLock::new(),
    };
    // Now, not while a stream plays.
    gallery.find_images();
    Ok(gallery)
}

/// Reads the faces that are not to be named.
fn read_strangers(
    file: &File,
    header: &Header,
    tensor: &TensorInfo,
    dimensions: usize,
    start: u64,
) -> Result<Strangers, Read> {
    let sources: Vec<String> = match header.optional(STRANGERS)? {
        Some(text) => serde_json::from_str(&text).map_err(no_gallery)?,
        None => Vec::new(),
    };
    let is_matrix = matches!(tensor.shape.as_slice(), [_, length] if *length == dimensions);
    if tensor.dtype != Dtype::F32 || !is_matrix {
        return Err(Read::Content(no_gallery(format!(
            "`{STRANGERS}` is {:?} {:?}, expected F32 [S, {dimensions}]",
            tensor.dtype, tensor.shape
        ))));
    }
    let rows = tensor.shape[0];
    if rows > MOST_STRANGERS {
        return Err(Read::Content(no_gallery(format!(
            "`{STRANGERS}` has {rows} rows, at most {MOST_STRANGERS} are read"
        ))));
    }
    // Within the file, as `Header::parse` has checked.
    let (first, last) = tensor.data_offsets;
    let mut bytes = vec![0; last - first];
    file.read_exact_at(&mut bytes, start + first as u64)?;
    let numbers: Vec<f32> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect();
    Strangers::read(sources, &numbers, dimensions).map_err(|row| {
        Read::Content(format!(
            "damaged: row {row} of `{STRANGERS}` has no direction"
        ))
    })
}

/// The file to which `path` leads. It need not exist.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    /// The same limit as the system's.
    const MOST_LINKS: usize = 40;
    let mut next = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&next) {
            Ok(to) => next = next.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(next),
        }
    }
    Err(io::Error::other("it is a link in a loop"))
}

/// Replaces the file to which `path` leads, atomically. From `large` bytes on, it also has the
/// 16-bit numbers.
pub fn write(gallery: &Gallery, path: &Path, large: u64) -> Result<(), Error> {
    let failed = |cause: io::Error| Error::Unwritable {
        path: path.to_owned(),
        cause,
    };
    let real = behind_links(path).map_err(failed)?;
    if std::fs::metadata(&real).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let folder = real
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    let written = write_to(gallery, &mut writer, large).and_then(|()| writer.flush());
    drop(writer);
    written.map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&real).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Writes the bytes of a gallery's file.
pub fn write_to(gallery: &Gallery, writer: &mut impl Write, large: u64) -> io::Result<()> {
    let mut fixed = gallery.numbers.fixed();
    if ((4 * fixed.len()) as u64) < large {
        fixed = &[];
    }
    let header = header(gallery, !fixed.is_empty())?;
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    write_exact(writer, gallery)?;
    write_numbers(writer, gallery.strangers.exact(), |v| v.to_le_bytes())?;
    write_numbers(writer, fixed, |v| v.to_le_bytes())
}

fn write_exact(writer: &mut impl Write, gallery: &Gallery) -> io::Result<()> {
    (0..gallery.len()).try_for_each(|row| {
        let exact = gallery.exact(row).ok_or_else(changed)?;
        write_numbers(writer, &exact, |v| v.to_le_bytes())
    })
}

fn changed() -> io::Error {
    io::Error::other("the file of the gallery was changed while it was in use")
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
    let strangers = gallery.strangers();
    let sources = serde_json::to_string(strangers)?;
    let mut ours = vec![
        FORMAT,
        VERSION,
        &gallery.model.name,
        &gallery.model.sha256,
        &rows,
    ];
    // Last in `OURS`. A gallery without strangers looks as it always did.
    ours.extend((!strangers.is_empty()).then_some(&*sources));
    let notes = gallery.notes.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let numbers = gallery.len() * gallery.dimensions;
    let info = |dtype, rows, first, last| TensorInfo {
        dtype,
        shape: vec![rows, gallery.dimensions],
        data_offsets: (first, last),
    };
    let rows = gallery.len();
    let mut tensors = BTreeMap::from([(EXACT, info(Dtype::F32, rows, 0, 4 * numbers))]);
    let end = 4 * (numbers + strangers.len() * gallery.dimensions);
    if !strangers.is_empty() {
        let rows = strangers.len();
        tensors.insert(STRANGERS, info(Dtype::F32, rows, 4 * numbers, end));
    }
    if with_fixed {
        tensors.insert(FIXED, info(Dtype::I16, rows, end, end + 2 * numbers));
    }
    let mut header = serde_json::to_vec(&WrittenHeader {
        metadata: notes.chain(OURS.into_iter().zip(ours)).collect(),
        tensors,
    })?;
    let start = (8 + header.len()).next_multiple_of(ALIGNMENT);
    header.resize(start - 8, b' ');
    if header.len() > MAX_HEADER {
        return Err(io::Error::other(format!(
            "the names and sources of {} rows need {} bytes, but the file's format permits {MAX_HEADER}: \
             shorten them, or divide the gallery",
            gallery.len(),
            header.len()
        )));
    }
    Ok(header)
}

#[cfg(test)]
mod tests;
