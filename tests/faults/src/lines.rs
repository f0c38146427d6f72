//! Reads a camera's JSON lines while they are written.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A stream is good again after this many frames with faces in a row.
const GOOD: usize = 5;

/// A longer pause between two of them interrupts the row, even on a busy machine.
const PAUSE: Duration = Duration::from_secs(1);

pub struct Lines {
    path: PathBuf,
    offset: u64,
}

impl Lines {
    /// Follows the lines that are written from now on.
    pub fn follow(path: &Path) -> Self {
        let offset = fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self {
            path: path.to_owned(),
            offset,
        }
    }

    /// The lines since the last call.
    pub fn poll(&mut self) -> Result<Vec<Value>> {
        let Ok(mut file) = fs::File::open(&self.path) else {
            return Ok(Vec::new());
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n');
        let Some(whole) = whole else {
            return Ok(Vec::new());
        };
        self.offset += whole as u64 + 1;
        text[..whole]
            .split(|&byte| byte == b'\n')
            .map(|line| {
                serde_json::from_slice(line)
                    .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(line)))
            })
            .collect()
    }

    /// How long after `since` the first of some consecutive frames came that have faces and satisfy
    /// `wanted`.
    pub fn good_again(
        &mut self,
        since: Instant,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        let mut row: Vec<Instant> = Vec::new();
        loop {
            for line in self.poll()? {
                if line["type"] != "frame" {
                    continue;
                }
                let has_faces = line["faces"].as_array().is_some_and(|f| !f.is_empty());
                let now = Instant::now();
                if !has_faces
                    || !wanted(&line)
                    || row.last().is_some_and(|&last| now - last > PAUSE)
                {
                    row.clear();
                }
                if has_faces && wanted(&line) {
                    row.push(now);
                }
                if row.len() == GOOD {
                    return Ok(row[0].saturating_duration_since(since));
                }
            }
            if since.elapsed() > patience {
                bail!("not good again within {} s", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The longest time without a frame during `time`, and the number of frames.
    pub fn longest_pause(&mut self, time: Duration) -> Result<(Duration, usize)> {
        let start = Instant::now();
        let (mut last, mut longest, mut count) = (start, Duration::ZERO, 0);
        self.poll()?;
        while start.elapsed() < time {
            let frames = self.poll()?.iter().filter(|l| l["type"] == "frame").count();
            longest = longest.max(last.elapsed());
            if frames > 0 {
                last = Instant::now();
                count += frames;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((longest, count))
    }
}

/// Checks that a file has whole lines of JSON. Returns their number, and the number of bytes after
/// the last line break.
pub fn check(path: &Path) -> Result<(usize, usize)> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n');
    let whole = whole.map_or(0, |at| at + 1);
    let mut count = 0;
    for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
        serde_json::from_slice::<Value>(line).with_context(|| {
            format!(
                "{}, line {}: {}",
                path.display(),
                count + 1,
                String::from_utf8_lossy(line)
            )
        })?;
        count += 1;
    }
    Ok((count, bytes.len() - whole))
}
