//! Reads files up to a limit. The limit is enforced while reading: pipes, devices and files under
//! `/proc` do not give their length, and a file may grow.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::Error;

/// Reads the whole file at `path`, which may be a pipe or a device.
///
/// # Errors
/// [`Error::Invalid`], with the file and the limit, if it has more than `limit` bytes.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |e| Error::reading(path, e);
    let file = File::open(path).map_err(failed)?;
    let said = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if said <= limit {
        // One byte more than expected, so that reading to the end needs no second allocation.
        bytes.reserve_exact(said as usize + 1);
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if said > limit || bytes.len() as u64 > limit {
        return Err(Error::invalid(
            path,
            format!("longer than {limit} bytes, the limit"),
        ));
    }
    Ok(bytes)
}

/// Reads the whole file at `path` as [`read_at_most`] does; it must be UTF-8.
pub fn read_text_at_most(path: &Path, limit: u64) -> Result<String, Error> {
    String::from_utf8(read_at_most(path, limit)?)
        .map_err(|error| Error::invalid(path, format!("it is not UTF-8: {}", error.utf8_error())))
}

/// The length and the sha256, in hexadecimal, of the file at `path`. Never holds the whole file in
/// memory.
pub fn sha256_of(path: &Path) -> Result<(u64, String), Error> {
    let failed = |e| Error::reading(path, e);
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    let mut hash = Sha256::new();
    let mut length = 0;
    loop {
        let bytes = reader.fill_buf().map_err(failed)?;
        let count = bytes.len();
        if count == 0 {
            return Ok((length, hex(&hash.finalize())));
        }
        hash.update(bytes);
        length += count as u64;
        reader.consume(count);
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads lines of at most `limit` bytes.
pub struct Lines<R> {
    inner: R,
    limit: u64,
    number: u64,
}

impl Lines<BufReader<File>> {
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self::new(BufReader::new(File::open(path)?), limit))
    }
}

impl<R: BufRead> Lines<R> {
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            limit,
            number: 0,
        }
    }

    /// The number of the line read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line into `line`, with its line break. Returns `false` at the end.
    pub fn next_into(&mut self, line: &mut String) -> io::Result<bool> {
        line.clear();
        self.number += 1;
        let read = self.inner.by_ref().take(self.limit + 1).read_line(line)?;
        if read as u64 > self.limit {
            return Err(io::Error::other(format!(
                "longer than {} bytes, the limit for a line",
                self.limit
            )));
        }
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_kept_whatever_the_length_says() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 1024]).expect("writable");
        assert_eq!(read_at_most(&path, 1024).expect("fits"), [7; 1024]);
        let refusal = |path: &Path, limit| {
            let error = read_at_most(path, limit).expect_err("too long").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            error
        };
        assert!(refusal(&path, 1023).contains("1023 bytes"));
        assert!(refusal("/dev/zero".as_ref(), 1 << 20).contains("longer than 1048576 bytes"));
        // Metadata gives their length as 0.
        let status = read_text_at_most("/proc/self/status".as_ref(), 1 << 20).expect("short");
        assert!(status.contains("VmSize"));
        assert!(refusal("/proc/self/status".as_ref(), 10).contains("10 bytes"));
        assert!(
            read_at_most("/dev/null".as_ref(), 0)
                .expect("empty")
                .is_empty()
        );
    }

    #[test]
    fn a_pipe_is_read_to_its_end_or_the_limit() {
        for (length, limit, fits) in [(100_000, 100_000, true), (100_001, 100_000, false)] {
            let (reader, mut writer) = io::pipe().expect("a pipe");
            let writing = std::thread::spawn(move || {
                // Fails once the reader has stopped reading.
                let _ = io::Write::write_all(&mut writer, &vec![b'x'; length]);
            });
            let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
            let read = read_at_most(path.as_ref(), limit);
            assert_eq!(read.is_ok(), fits, "{length}");
            drop(reader);
            writing.join().expect("no panic");
        }
    }

    #[test]
    fn lines_have_a_limit_each() {
        let mut lines = Lines::new(&b"one\ntwo\n\nlonger\n"[..], 5);
        let mut line = String::new();
        for expected in ["one\n", "two\n", "\n"] {
            assert!(lines.next_into(&mut line).expect("short"));
            assert_eq!(line, expected);
        }
        let error = lines.next_into(&mut line).expect_err("7 bytes").to_string();
        assert!(error.contains("5 bytes"), "{error}");
        assert_eq!(lines.number(), 4);
        let mut lines = Lines::new(&b"1234"[..], 5);
        assert!(lines.next_into(&mut line).expect("short"));
        assert!(!lines.next_into(&mut line).expect("the end"));
        let mut endless = Lines::open("/dev/zero".as_ref(), 1 << 20).expect("there");
        assert!(endless.next_into(&mut line).is_err());
    }
}
