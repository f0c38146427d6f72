//! Whether a JPEG (ITU-T T.81) is whole. Its decoder fills what is missing with grey and says nothing.
//!
//! This looks at markers and at runs of bytes that no encoder writes. It finds most of what copying breaks:
//! the end is missing, or blocks of the disk are empty or come from elsewhere.

/// What is wrong with a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    CutShort,
    /// A part in the middle is not the picture's.
    Damaged(&'static str),
}

const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const TABLES: u8 = 0xc4;
/// Frames with Huffman codes, in one pass.
const SEQUENTIAL: [u8; 2] = [0xc0, 0xc1];

/// The shortest run of bytes that counts as a hole: the smallest block of a disk.
const HOLE: usize = 512;

/// Looks at a JPEG up to its end marker. Anything behind that, such as the video of a motion photo, does not
/// matter.
pub fn fault(bytes: &[u8]) -> Option<Fault> {
    if !bytes.starts_with(&[0xff, START, 0xff]) {
        return None;
    }
    Walk::new(bytes).walk_to_end().err()
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether the frame has Huffman codes, in one pass.
    sequential: bool,
    /// The symbol of the code that has only zero bits, in each table for AC coefficients.
    zeros: [Option<u8>; 4],
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 2,
            sequential: false,
            zeros: [None; 4],
        }
    }

    fn walk_to_end(&mut self) -> Result<(), Fault> {
        loop {
            // Markers may be filled up with any number of 0xff.
            let pair = self.bytes.get(self.at..self.at + 2);
            let [0xff, marker] = *pair.ok_or(Fault::CutShort)? else {
                // Not a JPEG that can be followed: the decoder's to judge.
                return Ok(());
            };
            match marker {
                0xff => self.at += 1,
                END => return Ok(()),
                // Without a length: restarts, and one that is reserved.
                0x01 | 0xd0..=0xd7 => self.at += 2,
                _ => self.segment(marker)?,
            }
        }
    }

    fn segment(&mut self, marker: u8) -> Result<(), Fault> {
        let rest = self.bytes.get(self.at + 2..).unwrap_or_default();
        let length = *rest.first_chunk().ok_or(Fault::CutShort)?;
        let length = usize::from(u16::from_be_bytes(length)).max(2);
        let content = rest.get(2..length).ok_or(Fault::CutShort)?;
        self.at += 2 + length;
        match marker {
            TABLES => self.tables(content),
            SCAN => return self.scan(content),
            marker if SEQUENTIAL.contains(&marker) => self.sequential = true,
            _ => {}
        }
        Ok(())
    }

    fn tables(&mut self, mut content: &[u8]) {
        // Class and number, how many codes there are of each length, and their symbols.
        while let [head, rest @ ..] = content {
            let Some(counts) = rest.first_chunk::<16>() else {
                return;
            };
            let symbols: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let is_ac = head >> 4 == 1;
            if let Some(table) = self.zeros.get_mut(usize::from(head & 15))
                && is_ac
            {
                *table = rest.get(16).copied();
            }
            content = rest.get(16 + symbols..).unwrap_or_default();
        }
    }

    /// Goes through the entropy-coded data to the first marker behind them.
    fn scan(&mut self, header: &[u8]) -> Result<(), Fault> {
        let zeros_may_be = self.zeros_may_be(header);
        let data = self.bytes.get(self.at..).unwrap_or_default();
        let mut restart = None;
        let mut zeros = 0;
        let mut i = 0;
        while i + 1 < data.len() {
            let byte = data[i];
            if byte == 0 {
                zeros += 1;
                if zeros == HOLE && !zeros_may_be {
                    return Err(Fault::Damaged("a part of it is empty"));
                }
            } else {
                zeros = 0;
            }
            if byte != 0xff {
                i += 1;
                continue;
            }
            match data[i + 1] {
                0x00 => i += 2,
                // Fills up in front of a marker.
                0xff => i += 1,
                number @ 0xd0..=0xd7 => {
                    let expected = restart.map_or(0xd0, |last: u8| 0xd0 | (last + 1) & 7);
                    if number != expected {
                        return Err(Fault::Damaged("a part of it is missing"));
                    }
                    restart = Some(number);
                    i += 2;
                }
                // Reserved: data of something else.
                0x02..=0xbf => return Err(Fault::Damaged("a part of it is not of this picture")),
                _ => {
                    self.at += i;
                    return Ok(());
                }
            }
        }
        Err(Fault::CutShort)
    }

    /// Whether zero bytes may fill more than [`HOLE`]: in flat areas, if the code of zeros means that all
    /// coefficients of a block are zero. In progressive frames they may mean anything.
    fn zeros_may_be(&self, header: &[u8]) -> bool {
        if !self.sequential {
            return true;
        }
        let Some((count, rest)) = header.split_first() else {
            return true;
        };
        let components = rest.chunks_exact(2).take(usize::from(*count));
        let mut tables = components.map(|component| usize::from(component[1] & 15));
        let end_of_block = |table: usize| {
            let symbol = self.zeros.get(table).copied().flatten();
            symbol.is_none_or(|symbol| symbol == 0)
        };
        tables.all(end_of_block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 8] = [0xff, START, 0xff, 0xe0, 0, 4, 1, 2];
    const SCAN_OF_ONE: [u8; 10] = [0xff, SCAN, 0, 8, 1, 1, 0x00, 0, 63, 0];

    #[test]
    fn only_a_jpeg_without_its_end_is_cut_short() {
        let scan = [&SCAN_OF_ONE[..], &[1, 2, 0xff, 0, 3, 0xff, 0xd0, 4]].concat();
        let whole = [&HEAD[..], &scan, &[0xff, 0xff, END]].concat();
        assert_eq!(fault(&whole), None);
        assert_eq!(fault(&[&whole[..], b"a video"].concat()), None);
        let two = [&HEAD[..], &scan, &scan, &[0xff, END]].concat();
        assert_eq!(fault(&two), None, "progressive");
        for length in 3..whole.len() {
            assert_eq!(fault(&whole[..length]), Some(Fault::CutShort), "{length}");
        }
        assert_eq!((fault(b"\x89PNG"), fault(&[])), (None, None));
    }

    /// A JPEG with these bytes in its scan, whose shortest code for AC coefficients means `symbol`.
    fn with_scan(frame: u8, symbol: u8, data: &[u8]) -> Vec<u8> {
        let frame = [0xff, frame, 0, 3, 8];
        let mut table = vec![0xff, TABLES, 0, 20, 0x10, 1];
        table.extend([0; 15]);
        table.push(symbol);
        [&HEAD[..], &frame, &table, &SCAN_OF_ONE, data, &[0xff, END]].concat()
    }

    #[test]
    fn holes_are_damage_where_zeros_mean_something() {
        let hole = [&[9; 40][..], &[0; HOLE], &[9; 40]].concat();
        let damaged = |frame, symbol| fault(&with_scan(frame, symbol, &hole)).is_some();
        assert!(damaged(0xc0, 0x01));
        assert!(!damaged(0xc0, 0x00), "a flat area");
        assert!(!damaged(0xc2, 0x01), "progressive");
        assert_eq!(fault(&with_scan(0xc0, 0x01, &[0; HOLE - 1])), None);
    }

    #[test]
    fn restarts_count_and_reserved_markers_are_of_something_else() {
        let of = |data: &[u8]| fault(&with_scan(0xc0, 1, data));
        assert_eq!(of(&[1, 0xff, 0xd0, 2, 0xff, 0xd1, 3]), None);
        let all: Vec<u8> = (0..20).flat_map(|i| [1, 0xff, 0xd0 + i % 8]).collect();
        assert_eq!(of(&all), None);
        assert!(matches!(
            of(&[1, 0xff, 0xd0, 2, 0xff, 0xd2, 3]),
            Some(Fault::Damaged(_))
        ));
        assert!(matches!(of(&[1, 0xff, 0x37, 2]), Some(Fault::Damaged(_))));
    }
}
