//! The file of an archive. All numbers are little-endian.
//!
//! ```text
//! magic [8], length of the header u32, its CRC-32 u32, header (JSON: model, sha256, dimensions)
//! then batches: magic [4], length of its text u32, rows u32, CRC-32 of text and ids u32, CRC-32 of the
//!               16-bit numbers u32, text (JSON: label, stamp), ids [rows] u64,
//!               numbers [rows, D] i16, numbers [rows, D] f32, magic [4]
//! ```
//!
//! A batch counts if it is there up to its last magic. A writer that is stopped leaves a part of one,
//! which the next writer cuts off.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use face_core::Error;
use serde::{Deserialize, Serialize};

use super::{Archive, Batch, THREADS};
use crate::gallery::scan;
use crate::{ModelId, normalised};

const MAGIC: &[u8; 8] = b"FACEARC1";
const BEGIN: &[u8; 4] = b"FILM";
const END: &[u8; 4] = b"DONE";
/// The size of what comes before the header's text, and before a batch's.
const HEAD: usize = 16;
const BATCH_HEAD: usize = 20;
/// The longest text.
const LONGEST_TEXT: u32 = 1 << 20;
const MOST_DIMENSIONS: usize = 1 << 14;

#[derive(Serialize, Deserialize)]
struct Header {
    model: String,
    sha256: String,
    dimensions: usize,
}

#[derive(Serialize, Deserialize)]
struct Text {
    label: String,
    stamp: String,
}

/// A batch to write.
pub struct BatchRef<'a> {
    pub label: &'a str,
    pub stamp: &'a str,
    /// Ids and vectors. One without direction, or of another length than the archive's, is left out.
    pub rows: &'a [(u64, Vec<f32>)],
}

/// Writes archives.
pub struct Writer<W> {
    to: W,
    dimensions: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a new archive.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(mut to: W, model: &ModelId, dimensions: usize) -> io::Result<Self> {
        let header = serde_json::to_vec(&Header {
            model: model.name.clone(),
            sha256: model.sha256.clone(),
            dimensions,
        })?;
        to.write_all(MAGIC)?;
        to.write_all(&length(header.len())?.to_le_bytes())?;
        to.write_all(&crc32fast::hash(&header).to_le_bytes())?;
        to.write_all(&header)?;
        Ok(Self { to, dimensions })
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, batch: &BatchRef) -> io::Result<()> {
        self.to.write_all(&encode(batch, self.dimensions)?)
    }

    pub fn into_inner(self) -> W {
        self.to
    }
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::Error::other("more than four billion in one batch"))
}

fn encode(batch: &BatchRef, dimensions: usize) -> io::Result<Vec<u8>> {
    let rows = batch.rows.iter().filter_map(|(id, row)| {
        let unit = (row.len() == dimensions)
            .then(|| normalised(row))
            .flatten()?;
        Some((*id, unit))
    });
    let rows: Vec<(u64, Vec<f32>)> = rows.collect();
    let text = serde_json::to_vec(&Text {
        label: batch.label.into(),
        stamp: batch.stamp.into(),
    })?;
    let ids: Vec<u8> = rows.iter().flat_map(|(id, _)| id.to_le_bytes()).collect();
    let numbers = || rows.iter().flat_map(|(_, row)| row);
    let fixed: Vec<u8> = numbers()
        .flat_map(|v| scan::fixed(*v).to_le_bytes())
        .collect();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&text);
    crc.update(&ids);
    let mut out = Vec::with_capacity(BATCH_HEAD + text.len() + ids.len() + 3 * fixed.len() + 4);
    out.extend(BEGIN);
    out.extend(length(text.len())?.to_le_bytes());
    out.extend(length(rows.len())?.to_le_bytes());
    out.extend(crc.finalize().to_le_bytes());
    out.extend(crc32fast::hash(&fixed).to_le_bytes());
    out.extend(text);
    out.extend(ids);
    out.extend(fixed);
    out.extend(numbers().flat_map(|v| v.to_le_bytes()));
    out.extend(END);
    Ok(out)
}

impl Archive {
    /// Appends batches to the file at `path`, from which this was read, and cuts off what an earlier
    /// writer left unfinished. This archive does not
    /// search them. The caller holds the file's lock.
    ///
    /// # Errors
    /// If they cannot be written; then the file is as it was.
    pub fn append(&mut self, path: &Path, batches: &[BatchRef]) -> io::Result<()> {
        let file = File::options().write(true).open(path)?;
        file.set_len(self.end)?;
        let mut end = self.end;
        let written = batches.iter().try_for_each(|batch| {
            let bytes = encode(batch, self.dimensions)?;
            file.write_all_at(&bytes, end)?;
            end += bytes.len() as u64;
            Ok(())
        });
        let written = written.and_then(|()| file.sync_data());
        match written {
            Ok(()) => self.end = end,
            // A full disk takes nothing more, but gives back.
            Err(_) => drop(file.set_len(self.end)),
        }
        written
    }
}

/// Where a batch's 16-bit numbers are.
struct Numbers {
    start: u64,
    count: usize,
    crc: u32,
}

pub fn open(path: &Path) -> Result<Archive, Error> {
    let unreadable = |error: io::Error| Error::reading(path, error);
    let damaged = |what: &str| {
        let text = format!("{what}; it is no archive of embeddings, or it is damaged");
        Error::reading(path, io::Error::new(io::ErrorKind::InvalidData, text))
    };
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size < HEAD as u64 {
        return Err(damaged("it is too short"));
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0).map_err(unreadable)?;
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let length = number(&head, 8);
    if &head[..8] != MAGIC || length > LONGEST_TEXT || HEAD as u64 + u64::from(length) > size {
        return Err(damaged("it does not begin like one"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, HEAD as u64)
        .map_err(unreadable)?;
    if crc32fast::hash(&header) != number(&head, 12) {
        return Err(damaged("its header is not what was written"));
    }
    let header: Header =
        serde_json::from_slice(&header).map_err(|_| damaged("its header cannot be read"))?;
    let dimensions = header.dimensions;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(damaged("its header has no usable length of embeddings"));
    }

    let mut batches = Vec::new();
    let mut numbers = Vec::new();
    let mut rows = 0;
    let mut at = HEAD as u64 + u64::from(length);
    while at + BATCH_HEAD as u64 <= size {
        let mut head = [0; BATCH_HEAD];
        file.read_exact_at(&mut head, at).map_err(unreadable)?;
        let (text, count) = (number(&head, 4), number(&head, 8));
        if &head[..4] != BEGIN || text > LONGEST_TEXT {
            return Err(damaged("a batch does not begin where the one before ends"));
        }
        let start = at + BATCH_HEAD as u64 + u64::from(text) + 8 * u64::from(count);
        let values = u64::from(count) * dimensions as u64;
        let exact = start + 2 * values;
        let end = exact + 4 * values + END.len() as u64;
        if end > size {
            break;
        }
        let mut last = [0; END.len()];
        file.read_exact_at(&mut last, end - END.len() as u64)
            .map_err(unreadable)?;
        let mut front = vec![0; (start - at) as usize - BATCH_HEAD];
        file.read_exact_at(&mut front, at + BATCH_HEAD as u64)
            .map_err(unreadable)?;
        if &last != END || crc32fast::hash(&front) != number(&head, 12) {
            return Err(damaged("a batch is not what was written"));
        }
        let (text, ids) = front.split_at(text as usize);
        let text: Text =
            serde_json::from_slice(text).map_err(|_| damaged("a batch has no label"))?;
        let (ids, _) = ids.as_chunks::<8>();
        batches.push(Batch {
            label: text.label,
            stamp: text.stamp,
            ids: ids.iter().map(|id| u64::from_le_bytes(*id)).collect(),
            exact,
        });
        numbers.push(Numbers {
            start,
            count: values as usize,
            crc: number(&head, 16),
        });
        rows += count as usize;
        at = end;
    }
    let fixed = read_numbers(&file, &numbers, dimensions).map_err(unreadable)?;
    let mut archive = Archive {
        model: ModelId {
            name: header.model,
            sha256: header.sha256,
        },
        dimensions,
        batches,
        starts: Vec::new(),
        fixed,
        file,
        end: at,
        filed: rows,
    };
    archive.number();
    Ok(archive)
}

/// Reads the 16-bit numbers of all batches, with several threads.
fn read_numbers(file: &File, batches: &[Numbers], dimensions: usize) -> io::Result<Vec<i16>> {
    let total: usize = batches.iter().map(|batch| batch.count).sum();
    let mut fixed: Vec<i16> = Vec::new();
    fixed.try_reserve_exact(total).map_err(io::Error::other)?;
    fixed.resize(total, 0);
    let share = total.div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let mut left: &mut [i16] = &mut fixed;
        let mut batches = batches;
        let mut threads = Vec::new();
        while !batches.is_empty() {
            // Whole batches, up to the share.
            let mut count = 0;
            let own = batches.iter().take_while(|batch| {
                let takes = count < share;
                count += if takes { batch.count } else { 0 };
                takes
            });
            let (own, rest) = batches.split_at(own.count().max(1));
            batches = rest;
            let (part, rest) = std::mem::take(&mut left).split_at_mut(count);
            left = rest;
            threads.push(scope.spawn(move || read_part(file, own, part, dimensions)));
        }
        threads.into_iter().try_for_each(|thread| {
            let lost = |_| Err(io::Error::other("a thread that reads has failed"));
            thread.join().unwrap_or_else(lost)
        })
    })?;
    Ok(fixed)
}

fn read_part(
    file: &File,
    batches: &[Numbers],
    mut part: &mut [i16],
    dimensions: usize,
) -> io::Result<()> {
    for batch in batches {
        let (own, rest) = std::mem::take(&mut part).split_at_mut(batch.count);
        part = rest;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(own);
        file.read_exact_at(bytes, batch.start)?;
        let same = crc32fast::hash(bytes) == batch.crc;
        if cfg!(target_endian = "big") {
            own.iter_mut().for_each(|v| *v = i16::from_le(*v));
        }
        if !same || !scan::all_unit(own, dimensions) {
            let text = "the embeddings of a batch are not what was written";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}
