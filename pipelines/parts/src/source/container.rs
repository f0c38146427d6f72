//! What the headers of MP4 and Matroska files say about their streams, and GStreamer 1.22 does not
//! tell or gets wrong. Nothing here knows GStreamer.
//!
//! The bytes are foreign: every length is checked, and little is read.

mod matroska;
mod mp4;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What is known of a file before it is played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// In the order of the file.
    pub tracks: Vec<Track>,
    /// Its length in bytes by its headers, if more than is there.
    pub promised: Option<u64>,
    /// Whether it has no list of its streams. Recorders write that at the end.
    pub is_unfinished: bool,
    /// Its length in nanoseconds, if the corrections change it.
    pub duration_ns: Option<u64>,
    /// What the demuxer should read instead.
    pub corrections: Vec<Correction>,
}

/// One stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// Its number in the file.
    pub id: u64,
    pub kind: Kind,
    /// Whether players choose it by themselves.
    pub is_default: bool,
    pub orientation: Orientation,
    /// What hides it: where its kind or its codec stands in the file.
    place: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Video,
    Audio,
    Other,
}

/// Bytes that replace those at `offset` in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// How a video is to be shown: mirrored first, then turned clockwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orientation {
    /// Left and right are exchanged.
    pub mirrored: bool,
    /// Quarter turns, 0 to 3.
    pub turns: u8,
}

impl Orientation {
    /// The orientation of a matrix: x' = a·x + c·y, y' = b·x + d·y, where y points down. Only signs
    /// count. `None` if the axes do not stay axes.
    fn of_matrix([a, b, c, d]: [i32; 4]) -> Option<Self> {
        let (mirrored, turns) = match [a, b, c, d].map(i32::signum) {
            [1, 0, 0, 1] => (false, 0),
            [0, 1, -1, 0] => (false, 1),
            [-1, 0, 0, -1] => (false, 2),
            [0, -1, 1, 0] => (false, 3),
            [-1, 0, 0, 1] => (true, 0),
            [0, -1, -1, 0] => (true, 1),
            [1, 0, 0, -1] => (true, 2),
            [0, 1, 1, 0] => (true, 3),
            _ => return None,
        };
        Some(Self { mirrored, turns })
    }

    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// The value of GStreamer's tag `image-orientation`.
    pub fn tag(self) -> &'static str {
        match (self.mirrored, self.turns) {
            (false, 1) => "rotate-90",
            (false, 2) => "rotate-180",
            (false, 3) => "rotate-270",
            (false, _) => "rotate-0",
            (true, 1) => "flip-rotate-90",
            (true, 2) => "flip-rotate-180",
            (true, 3) => "flip-rotate-270",
            (true, _) => "flip-rotate-0",
        }
    }
}

impl Overview {
    /// Reads the headers of a regular file. `None` for other formats, and for pipes and devices.
    pub fn of(path: &Path) -> Option<Self> {
        // Opening a pipe could wait, and reading it would take its data.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let mut file = BufReader::new(File::open(path).ok()?);
        Self::read(&mut file).ok().flatten()
    }

    /// Reads the headers of a file. `None` for other formats.
    pub fn read<R: Read + Seek>(file: &mut R) -> io::Result<Option<Self>> {
        let length = file.seek(SeekFrom::End(0))?;
        let mut overview = match mp4::read(file, length)? {
            Some(overview) => overview,
            None => match matroska::read(file, length)? {
                Some(overview) => overview,
                None => return Ok(None),
            },
        };
        overview.promised = overview.promised.filter(|promised| *promised > length);
        Ok(Some(overview))
    }

    /// Hides the streams of `kind` that players do not choose, by writing `hidden` in their places.
    /// GStreamer takes the streams that come first.
    fn hide(&mut self, kind: Kind, hidden: &[u8]) {
        let tracks = || self.tracks.iter().filter(|track| track.kind == kind);
        let Some(chosen) = tracks().find(|t| t.is_default).or_else(|| tracks().next()) else {
            return;
        };
        let others = tracks().filter(|track| track.place != chosen.place);
        let corrections: Vec<_> = others
            .map(|track| Correction {
                offset: track.place,
                bytes: hidden.to_vec(),
            })
            .collect();
        self.corrections.extend(corrections);
    }

    /// What is wrong with a file of `length` bytes, in words for the user.
    pub fn flaw(&self, length: u64) -> Option<String> {
        match (self.promised, self.is_unfinished) {
            (Some(promised), false) => Some(format!(
                "the file ends early: {length} of {promised} bytes are there"
            )),
            (Some(promised), true) => Some(format!(
                "the file ends early: {length} of {promised} bytes are there, without the index \
                 that follows"
            )),
            (None, true) => {
                Some("it has no index: the recording was not finished, or its end is lost".into())
            }
            (None, false) => None,
        }
    }
}

/// Applies `corrections` to the bytes of a file from `offset` on. Returns whether any byte changed.
pub fn correct(bytes: &mut [u8], offset: u64, corrections: &[Correction]) -> bool {
    let mut changed = false;
    for correction in corrections {
        for (place, byte) in (correction.offset..).zip(&correction.bytes) {
            let index = place
                .checked_sub(offset)
                .and_then(|i| usize::try_from(i).ok());
            if let Some(old) = index.and_then(|index| bytes.get_mut(index)) {
                changed |= old != byte;
                *old = *byte;
            }
        }
    }
    changed
}

/// Whether [`correct`] would touch this many bytes from `offset` on.
pub fn concerns(offset: u64, length: u64, corrections: &[Correction]) -> bool {
    corrections.iter().any(|correction| {
        correction.offset < offset.saturating_add(length)
            && offset < correction.offset + correction.bytes.len() as u64
    })
}

/// Reads `length` bytes from `offset` on, or what is there of them.
fn read_at<R: Read + Seek>(file: &mut R, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A number in the order of the network, of at most 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_reaches_across_the_ends_of_blocks() {
        let corrections = [Correction {
            offset: 3,
            bytes: vec![7, 8, 9],
        }];
        let mut whole = Vec::new();
        for (offset, block) in [(0, &mut [0; 4][..]), (4, &mut [0; 1]), (5, &mut [0; 4])] {
            let length = block.len() as u64;
            assert!(concerns(offset, length, &corrections));
            assert!(correct(block, offset, &corrections));
            whole.extend_from_slice(block);
        }
        assert_eq!(whole, [0, 0, 0, 7, 8, 9, 0, 0, 0]);
        assert!(!concerns(6, 10, &corrections) && !concerns(0, 3, &corrections));
        assert!(!correct(&mut [0; 10], 6, &corrections));
    }

    #[test]
    fn other_files_have_no_overview() {
        for bytes in [
            &b""[..],
            b"\xff\xd8\xff\xe0\0\x10JFIF\0",
            b"RIFF\0\0\0\0AVI LIST",
            b"#EXTM3U",
            &[0; 100],
            &[0x47; 376],
        ] {
            let overview = Overview::read(&mut io::Cursor::new(bytes)).expect("no error");
            assert_eq!(overview, None, "{bytes:?}");
        }
    }

    #[test]
    fn flaws_say_how_much_is_there() {
        let flaw = |promised, is_unfinished| {
            let overview = Overview {
                promised,
                is_unfinished,
                ..Overview::default()
            };
            overview.flaw(60).unwrap_or_default()
        };
        assert_eq!(
            flaw(Some(100), false),
            "the file ends early: 60 of 100 bytes are there"
        );
        assert!(flaw(Some(100), true).contains("without the index"));
        assert!(flaw(None, true).contains("no index"));
        assert_eq!(flaw(None, false), "");
    }
}
