//! Reads truth files with any content: no endless piece is read into memory, and errors can name
//! the line.

use std::io::{self, BufRead, Read};

/// The longest piece of a file that is read at once: a line, or a tag with its attributes.
const LONGEST: usize = 1 << 20;

/// Counts lines, and fails once more than 1 MiB was read since [`start_piece`](Self::start_piece).
pub struct Pieces<R> {
    inner: R,
    line: u64,
    left: usize,
}

impl<R: BufRead> Pieces<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            line: 1,
            left: LONGEST,
        }
    }

    pub fn start_piece(&mut self) {
        self.left = LONGEST;
    }

    /// The line of the next byte, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }
}

impl<R: BufRead> Read for Pieces<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(to.len());
        to[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Pieces<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = self.inner.fill_buf()?;
        if self.left == 0 && !available.is_empty() {
            return Err(io::Error::other("it does not end within 1 MiB"));
        }
        Ok(&available[..available.len().min(self.left)])
    }

    fn consume(&mut self, n: usize) {
        // Returns buffered data without reading.
        if let Ok(available) = self.inner.fill_buf() {
            let consumed = &available[..n.min(available.len())];
            self.line += consumed.iter().filter(|b| **b == b'\n').count() as u64;
        }
        self.left = self.left.saturating_sub(n);
        self.inner.consume(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_pieces_bounded() {
        let mut text = b"a\nb\n".to_vec();
        text.extend(vec![b'x'; LONGEST + 1]);
        let mut pieces = Pieces::new(text.as_slice());
        let mut piece = Vec::new();
        pieces.read_until(b'\n', &mut piece).expect("short");
        assert_eq!((piece.as_slice(), pieces.line()), (&b"a\n"[..], 2));
        pieces.read_until(b'\n', &mut piece).expect("short");
        pieces.start_piece();
        let error = pieces.read_until(b'\n', &mut piece).expect_err("endless");
        assert!(error.to_string().contains("1 MiB"));
        assert_eq!(pieces.line(), 3);
    }
}
