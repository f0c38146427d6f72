//! The embeddings of a large gallery: 16-bit numbers in memory, exact ones in the file, read row by
//! row.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;

use super::{Read, Tensors};
use crate::gallery::{scan, unit};

/// How many bytes to read at a time.
const BLOCK: usize = 1 << 20;

/// Threads that read the numbers of a large gallery. One does not saturate memory.
const READERS: usize = 2;

/// One in this many rows of `embeddings_i16` is compared with `embeddings`.
const SAMPLE: usize = 1021;

/// The embeddings in an open file. Nothing is mapped: if somebody truncates a mapped file, the
/// process ends.
#[derive(Debug)]
struct Exact {
    file: File,
    /// The offset of the exact numbers.
    start: u64,
    dimensions: usize,
}

impl Exact {
    /// Reads the numbers of a row from the file. `bytes` has a row's length.
    fn read(&self, row: usize, bytes: &mut [u8]) -> io::Result<Vec<f32>> {
        let start = self.start + row as u64 * bytes.len() as u64;
        self.file.read_exact_at(bytes, start)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }

    /// A row of length 1. `None` if the file no longer holds the numbers that were rounded to
    /// `fixed` when it was opened.
    fn unit(&self, row: usize, fixed: &[i16]) -> Option<Vec<f32>> {
        let mut bytes = vec![0; 4 * self.dimensions];
        let unit = unit(&self.read(row, &mut bytes).ok()?)?;
        is_rounded(&unit, fixed).then_some(unit)
    }
}

fn is_rounded(unit: &[f32], fixed: &[i16]) -> bool {
    unit.iter()
        .map(|v| scan::fixed(*v))
        .eq(fixed.iter().copied())
}

/// The embeddings of an open file.
#[derive(Debug, Clone)]
pub struct FiledNumbers {
    exact: Arc<Exact>,
    fixed: Arc<Vec<i16>>,
}

impl FiledNumbers {
    pub fn fixed(&self) -> &[i16] {
        &self.fixed
    }

    fn fixed_row(&self, row: usize) -> &[i16] {
        let dimensions = self.exact.dimensions;
        &self.fixed[row * dimensions..(row + 1) * dimensions]
    }

    /// The exact row. `None` if the file was changed in place since it was read.
    pub fn exact(&self, row: usize) -> Option<Vec<f32>> {
        self.exact.unit(row, self.fixed_row(row))
    }

    /// All exact rows. `None` if the file was changed in place.
    pub fn all_exact(&self) -> Option<Vec<f32>> {
        let rows = self.fixed.len() / self.exact.dimensions;
        let mut all = Vec::with_capacity(self.fixed.len());
        for row in 0..rows {
            all.extend(self.exact(row)?);
        }
        Some(all)
    }

    /// The exact row, or the rounded one in memory if the file has changed.
    pub fn row(&self, row: usize) -> Cow<'_, [f32]> {
        let fixed = self.fixed_row(row);
        match self.exact.unit(row, fixed) {
            Some(exact) => exact.into(),
            None => fixed.iter().map(|v| scan::number(*v)).collect(),
        }
    }
}

/// Exact and rounded numbers.
type Both = (Vec<f32>, Vec<i16>);

/// Reads the embeddings into memory, each row scaled to length 1.
pub fn read_both(file: &File, tensors: &Tensors) -> Result<Both, Read> {
    let numbers = tensors.count * tensors.dimensions;
    let mut exact = reserved(numbers)?;
    let mut fixed = reserved(numbers)?;
    blocks(file, tensors, |unit| {
        fixed.extend(unit.iter().map(|v| scan::fixed(*v)));
        exact.extend(unit);
    })?;
    Ok((exact, fixed))
}

/// Reads the 16-bit numbers, from the file if they fit, and keeps it open for the exact ones.
pub fn read_filed(file: File, tensors: &Tensors) -> Result<FiledNumbers, Read> {
    let exact = Exact {
        file,
        start: tensors.exact,
        dimensions: tensors.dimensions,
    };
    let stored = match tensors.fixed {
        Some(start) => read_fixed(&exact, start, tensors)?,
        None => None,
    };
    let fixed = match stored {
        Some(fixed) => fixed,
        None => {
            let mut fixed = reserved(tensors.count * tensors.dimensions)?;
            blocks(&exact.file, tensors, |unit| {
                fixed.extend(unit.iter().map(|v| scan::fixed(*v)));
            })?;
            fixed
        }
    };
    Ok(FiledNumbers {
        exact: Arc::new(exact),
        fixed: Arc::new(fixed),
    })
}

/// The numbers of `embeddings_i16`, which begins at `start`. `None` if they do not fit the
/// embeddings.
fn read_fixed(exact: &Exact, start: u64, tensors: &Tensors) -> Result<Option<Vec<i16>>, Read> {
    let (count, dimensions) = (tensors.count, tensors.dimensions);
    // Makes sure that there is enough memory. Zeros then come from the system without being
    // written.
    drop(reserved::<i16>(count * dimensions)?);
    let mut fixed = vec![0; count * dimensions];
    let part = count.div_ceil(READERS).max(1) * dimensions;
    let starts = (start..).step_by(2 * part);
    let fits = thread::scope(|scope| {
        let readers = fixed.chunks_mut(part).zip(starts).map(|(part, start)| {
            let read = move || read_part(&exact.file, start, part, dimensions);
            thread::Builder::new().spawn_scoped(scope, read)
        });
        let readers = readers.collect::<io::Result<Vec<_>>>()?;
        let results = readers.into_iter().map(|reader| match reader.join() {
            Ok(fits) => fits,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // All of them, since the memory is theirs.
        results.collect::<io::Result<Vec<bool>>>()
    })?;
    if fits.contains(&false) {
        return Ok(None);
    }
    let mut bytes = vec![0; 4 * dimensions];
    for row in (0..count).step_by(SAMPLE) {
        let numbers = exact.read(row, &mut bytes)?;
        let is_unit = (scan::similarity(&numbers, &numbers) - 1.0).abs() < 1e-5;
        if !is_unit || !is_rounded(&numbers, &fixed[row * dimensions..(row + 1) * dimensions]) {
            return Ok(None);
        }
    }
    Ok(Some(fixed))
}

/// Reads rows from `start` on into `numbers`. Returns `false` at the first that is not of length 1,
/// and leaves the rest unread.
fn read_part(
    file: &File,
    mut start: u64,
    numbers: &mut [i16],
    dimensions: usize,
) -> io::Result<bool> {
    let block = (BLOCK / 2 / dimensions).max(1) * dimensions;
    for numbers in numbers.chunks_mut(block) {
        let bytes = bytemuck::cast_slice_mut(numbers);
        file.read_exact_at(bytes, start)?;
        start += bytes.len() as u64;
        if cfg!(target_endian = "big") {
            numbers.iter_mut().for_each(|v| *v = i16::from_le(*v));
        }
        // Checked while the rows are in the processor's cache.
        if !scan::all_unit(numbers, dimensions) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An empty vector with room for `numbers`. A file may claim more than memory holds.
fn reserved<T>(numbers: usize) -> Result<Vec<T>, Read> {
    let mut vector = Vec::new();
    match vector.try_reserve_exact(numbers) {
        Ok(()) => Ok(vector),
        Err(_) => Err(Read::Content(format!(
            "its {numbers} numbers do not fit in memory"
        ))),
    }
}

/// Calls `each` with every row of the exact embeddings, scaled to length 1.
fn blocks(file: &File, tensors: &Tensors, mut each: impl FnMut(Vec<f32>)) -> Result<(), Read> {
    let row_bytes = 4 * tensors.dimensions;
    let rows = (BLOCK / row_bytes).max(1);
    let mut bytes = vec![0; rows.min(tensors.count) * row_bytes];
    let mut row = Vec::with_capacity(tensors.dimensions);
    for first in (0..tensors.count).step_by(rows) {
        let bytes = &mut bytes[..rows.min(tensors.count - first) * row_bytes];
        file.read_exact_at(bytes, tensors.exact + (first * row_bytes) as u64)?;
        for (i, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
            row.clear();
            let (numbers, _) = bytes.as_chunks::<4>();
            row.extend(numbers.iter().map(|&b| f32::from_le_bytes(b)));
            each(unit(&row).ok_or(Read::NoDirection(first + i))?);
        }
    }
    Ok(())
}
