//! Embeddings of very many tracks, in one file that grows by appending, and their exact search.
//!
//! A gallery says who somebody is; an archive says where somebody was seen. It has no names. Its
//! embeddings come in batches, one per film.

mod file;
#[cfg(test)]
mod tests;

use std::fs::File;
#[cfg(test)]
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use face_core::Error;

use crate::gallery::scan;
use crate::{ModelId, normalised};

pub use file::{BatchRef, Writer};

/// Threads that read and scan. One does not saturate memory.
const THREADS: usize = 2;

/// The rows of one film.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The film.
    pub label: String,
    /// Tells whether the film has changed since.
    pub stamp: String,
    /// The id of each row's track.
    pub ids: Vec<u64>,
    /// The offset of its exact numbers in the file.
    exact: u64,
}

/// A row near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Index of the batch.
    pub batch: usize,
    pub id: u64,
    /// Cosine distance.
    pub distance: f64,
}

/// An open archive. Its 16-bit numbers are in memory, the exact ones stay in the file.
#[derive(Debug)]
pub struct Archive {
    pub model: ModelId,
    dimensions: usize,
    batches: Vec<Batch>,
    /// Index of each batch's first row.
    starts: Vec<usize>,
    fixed: Vec<i16>,
    file: File,
    /// Where the last whole batch ends in the file.
    end: u64,
    /// Rows in the file, also those that [`retain`](Self::retain) has dropped.
    filed: usize,
}

impl Archive {
    /// Reads an archive. What follows the last whole batch, because a writer was stopped, is left out.
    ///
    /// # Errors
    /// If the file cannot be read, is no archive, or is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        file::open(path)
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// The number of rows that are searched.
    pub fn len(&self) -> usize {
        self.fixed.len() / self.dimensions.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty()
    }

    /// Rows in the file that are not searched.
    pub fn unused(&self) -> usize {
        self.filed - self.len()
    }

    /// Whether something unfinished follows the last whole batch.
    #[cfg(test)]
    fn is_torn(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() != self.end)
    }

    /// Searches only the batches for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &Batch) -> bool) {
        let kept: Vec<bool> = self
            .batches
            .iter()
            .enumerate()
            .map(|(i, batch)| keep(i, batch))
            .collect();
        if kept.iter().all(|kept| *kept) {
            return;
        }
        let mut to = 0;
        for (i, batch) in self.batches.iter().enumerate() {
            if kept[i] {
                let from = self.starts[i] * self.dimensions;
                let count = batch.ids.len() * self.dimensions;
                self.fixed.copy_within(from..from + count, to);
                to += count;
            }
        }
        self.fixed.truncate(to);
        let mut kept = kept.into_iter();
        self.batches.retain(|_| kept.next().unwrap_or(false));
        self.number();
    }

    /// Computes `starts`.
    fn number(&mut self) {
        let mut start = 0;
        self.starts.clear();
        for batch in &self.batches {
            self.starts.push(start);
            start += batch.ids.len();
        }
    }

    /// The `k` rows nearest to a vector of any length, nearest first, as far as they are within
    /// `distance`. Ties are in the order of batches and rows. Exact: the same as comparing every row in
    /// 64 bits.
    pub fn nearest(&self, query: &[f32], k: usize, distance: f64) -> Vec<Found> {
        let (Some(unit), Some(scan)) = (normalised(query), scan::Query::new(query)) else {
            return Vec::new();
        };
        if unit.len() != self.dimensions || k == 0 || self.is_empty() {
            return Vec::new();
        }
        let share = self.len().div_ceil(THREADS) * self.dimensions;
        let rows: Vec<usize> = thread::scope(|scope| {
            let scan = &scan;
            let parts: Vec<_> = self
                .fixed
                .chunks(share)
                .map(|part| scope.spawn(move || scan.candidates(part, k)))
                .collect();
            let parts = parts.into_iter().enumerate().map(|(i, part)| {
                let first = i * share / self.dimensions;
                // A thread that panicked has found nothing; nothing in it panics.
                let found = part.join().unwrap_or_default();
                found.into_iter().map(move |row| first + row)
            });
            parts.flatten().collect()
        });
        let mut found: Vec<(usize, f64)> = rows
            .into_iter()
            .map(|row| (row, 1.0 - scan::similarity(&self.row(row), &unit)))
            .filter(|(_, d)| *d <= distance)
            .collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
        found
            .into_iter()
            .map(|(row, distance)| {
                let (batch, place) = self.place(row);
                Found {
                    batch,
                    id: self.batches[batch].ids[place],
                    distance,
                }
            })
            .collect()
    }

    /// The batch of a row, and its place in it.
    fn place(&self, row: usize) -> (usize, usize) {
        // Empty batches share their start with the next one.
        let batch = self.starts.partition_point(|start| *start <= row) - 1;
        (batch, row - self.starts[batch])
    }

    /// The exact numbers of a row; the rounded ones if somebody changed the file meanwhile.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let (batch, place) = self.place(row);
        let fixed = &self.fixed[row * self.dimensions..(row + 1) * self.dimensions];
        let mut bytes = vec![0; 4 * self.dimensions];
        let start = self.batches[batch].exact + (place * bytes.len()) as u64;
        let read = self.file.read_exact_at(&mut bytes, start);
        let (numbers, _) = bytes.as_chunks::<4>();
        let exact: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let same = || {
            exact
                .iter()
                .map(|v| scan::fixed(*v))
                .eq(fixed.iter().copied())
        };
        match read.is_ok() && same() {
            true => exact,
            false => fixed.iter().map(|v| scan::number(*v)).collect(),
        }
    }

    /// The rows of a batch with their ids, to copy them.
    pub fn rows(&self, batch: usize) -> impl Iterator<Item = (u64, Vec<f32>)> + '_ {
        let start = self.starts[batch];
        let ids = self.batches[batch].ids.iter().enumerate();
        ids.map(move |(i, id)| (*id, self.row(start + i)))
    }
}
