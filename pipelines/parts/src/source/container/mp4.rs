//! MP4 and QuickTime (ISO/IEC 14496-12).
//!
//! `qtdemux` of GStreamer 1.22
//! - drops the end of a trimmed file: it compares times of the media, which begin before the trim,
//!   with the duration of the movie, which begins with it (and the last frames of a fragmented one);
//! - ignores the matrix of one of the eight orientations (mirrored and turned by 90°);
//! - takes the first video, whichever is enabled.

use std::io::{self, Read, Seek};

use super::{Correction, Kind, Orientation, Overview, Track, number, read_at};

/// The largest list of streams that is read, in bytes.
const MOST_BYTES: u64 = 64 << 20;

/// The most boxes of a file that are looked at. Each second of a fragmented file may have two.
const MOST_BOXES: usize = 20_000;

/// The most streams of a file.
const MOST_TRACKS: usize = 1000;

/// The boxes at the top of a file.
const TOP: [&[u8; 4]; 18] = [
    b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"mfra", b"sidx",
    b"ssix", b"styp", b"udta", b"meta", b"pdin", b"prft", b"emsg", b"pnot",
];

/// A box in memory.
#[derive(Clone, Copy)]
struct Piece<'a> {
    kind: [u8; 4],
    /// Its content, and where that is in the file.
    content: &'a [u8],
    place: u64,
}

impl<'a> Piece<'a> {
    /// The boxes in its content.
    fn pieces(self) -> impl Iterator<Item = Piece<'a>> {
        let mut rest = self.content;
        let mut place = self.place;
        std::iter::from_fn(move || {
            let (head, size) = header(rest)?;
            let kind = rest.get(4..8)?.try_into().ok()?;
            let end = match size {
                0 => rest.len(),
                size => usize::try_from(size).ok()?,
            };
            // A box that is cut off is of no use.
            let content = rest.get(head..end)?;
            let piece = Piece {
                kind,
                content,
                place: place + head as u64,
            };
            rest = &rest[end..];
            place += end as u64;
            Some(piece)
        })
    }

    fn find(self, kind: &[u8; 4]) -> Option<Piece<'a>> {
        self.pieces().find(|piece| piece.kind == *kind)
    }

    /// Some bytes of its content as a number.
    fn number(self, from: usize, length: usize) -> Option<u64> {
        self.content.get(from..from + length).map(number)
    }

    /// The version of a full box.
    fn is_long(self) -> bool {
        self.content.first() == Some(&1)
    }
}

/// The length of the header of a box, and the size of the box with it, which is 0 up to the end.
fn header(bytes: &[u8]) -> Option<(usize, u64)> {
    match number(bytes.get(..4)?) {
        1 => Some((16, number(bytes.get(8..16)?))).filter(|(head, size)| *size >= *head as u64),
        0 => Some((8, 0)),
        size => Some((8, size)).filter(|(head, size)| *size >= *head as u64),
    }
}

/// Reads the headers of an MP4 file of `length` bytes. `None` for other formats.
pub fn read<R: Read + Seek>(file: &mut R, length: u64) -> io::Result<Option<Overview>> {
    let mut overview = Overview::default();
    let (mut has_index, mut has_media, mut needs_index) = (false, false, true);
    let mut place = 0;
    for count in 0.. {
        let head = read_at(file, place, 16)?;
        let kind = head.get(4..8).unwrap_or_default();
        let known = TOP.iter().any(|top| **top == *kind);
        let Some((head, size)) = header(&head).filter(|_| known) else {
            if count == 0 {
                return Ok(None);
            }
            // What follows the last box is none of our business.
            break;
        };
        match kind {
            b"moov" if !has_index => {
                let content = size.checked_sub(head as u64);
                // Without a size, it goes to the end.
                let content = content.unwrap_or((length - place).saturating_sub(head as u64));
                let bytes = read_at(file, place + head as u64, content.min(MOST_BYTES))?;
                // The rest may be missing.
                let is_whole = bytes.len() as u64 == content;
                has_index = is_whole || content > MOST_BYTES;
                if is_whole {
                    let movie = Piece {
                        kind: *b"moov",
                        content: &bytes,
                        place: place + head as u64,
                    };
                    index(movie, &mut overview);
                    needs_index &= movie.find(b"mvex").is_none();
                }
            }
            b"mdat" => has_media = true,
            // Fragments, and pictures (HEIF), need no list of frames.
            b"moof" | b"meta" => needs_index = false,
            _ => {}
        }
        // Size 0 means up to the end.
        let Some(end) = (size > 0).then(|| place.saturating_add(size)) else {
            break;
        };
        // Padding whose size is wrong does no harm.
        let is_padding = matches!(kind, b"free" | b"skip" | b"wide" | b"uuid");
        if !(is_padding && has_index && has_media) {
            overview.promised = Some(end);
        }
        if end >= length || count > MOST_BOXES {
            break;
        }
        place = end;
    }
    overview.is_unfinished = has_media && !has_index && needs_index;
    Ok(Some(overview))
}

/// Reads the list of streams.
fn index(movie: Piece, overview: &mut Overview) {
    let tracks = movie.pieces().filter(|piece| piece.kind == *b"trak");
    let tracks: Vec<Piece> = tracks.take(MOST_TRACKS).collect();
    overview.tracks = tracks.iter().copied().filter_map(track).collect();
    overview.hide(Kind::Video, b"skip");
    overview.hide(Kind::Audio, b"skip");
    lengthen(movie, &tracks, overview);
}

fn track(track: Piece) -> Option<Track> {
    let header = track.find(b"tkhd")?;
    let (id, matrix) = match header.is_long() {
        false => (header.number(12, 4)?, 40),
        true => (header.number(20, 4)?, 52),
    };
    let handler = track.find(b"mdia")?.find(b"hdlr")?;
    let kind = match handler.content.get(8..12)? {
        b"vide" => Kind::Video,
        b"soun" => Kind::Audio,
        _ => Kind::Other,
    };
    // A row has three numbers.
    let cell = |index: usize| {
        header
            .number(matrix + 4 * index, 4)
            .map(|n| n as u32 as i32)
    };
    let cells = [cell(0), cell(1), cell(3), cell(4)];
    let orientation = match cells {
        [Some(a), Some(b), Some(c), Some(d)] => Orientation::of_matrix([a, b, c, d]),
        _ => None,
    };
    Some(Track {
        id,
        kind,
        is_default: header.content.get(3)? & 1 == 1,
        orientation: orientation.unwrap_or_default(),
        place: handler.place + 8,
    })
}

/// Makes the movie longer by what its streams skip at their beginning.
fn lengthen(movie: Piece, tracks: &[Piece], overview: &mut Overview) -> Option<()> {
    let header = movie.find(b"mvhd")?;
    let (scale, place, size) = match header.is_long() {
        false => (header.number(12, 4)?, 16, 4),
        true => (header.number(20, 4)?, 24, 8),
    };
    let skipped = tracks.iter().filter_map(|track| skipped(*track, scale));
    let skipped = skipped.max();
    let Some(fragments) = movie.find(b"mvex") else {
        return lengthen_at(header, (place, size), (scale, skipped?), overview);
    };
    // Streams of fragments often begin later, without saying so here: with B-frames, by a few frames.
    let header = fragments.find(b"mehd")?;
    let size = if header.is_long() { 8 } else { 4 };
    let most = skipped.unwrap_or(0).saturating_add(scale);
    lengthen_at(header, (4, size), (scale, most), overview)
}

/// Makes the duration in a header longer, in units of which a second has `scale`.
fn lengthen_at(
    header: Piece,
    (place, size): (usize, usize),
    (scale, skipped): (u64, u64),
    overview: &mut Overview,
) -> Option<()> {
    let duration = header.number(place, size)?;
    let longest = match size {
        // All ones mean that the duration is unknown.
        4 => u64::from(u32::MAX) - 1,
        _ => u64::MAX - 1,
    };
    let longer = duration.saturating_add(skipped).min(longest);
    if duration == 0 || duration >= longest || scale == 0 {
        return None;
    }
    overview.duration_ns =
        u64::try_from(u128::from(duration) * 1_000_000_000 / u128::from(scale)).ok();
    overview.corrections.push(Correction {
        offset: header.place + place as u64,
        bytes: longer.to_be_bytes()[8 - size..].to_vec(),
    });
    Some(())
}

/// How much of its media a track skips at most, in units of which a second has `scale`.
fn skipped(track: Piece, scale: u64) -> Option<u64> {
    let list = track.find(b"edts")?.find(b"elst")?;
    let media = track.find(b"mdia")?.find(b"mdhd")?;
    let media_scale = match media.is_long() {
        false => media.number(12, 4)?,
        true => media.number(20, 4)?,
    };
    let (size, start, width) = match list.is_long() {
        false => (12, 4, 4),
        true => (20, 8, 8),
    };
    let entries = list.content.get(8..)?.chunks_exact(size);
    let times = entries.filter_map(|entry| {
        let time = number(entry.get(start..start + width)?);
        // -1 is an empty edit.
        let is_empty = match width {
            4 => time > i32::MAX as u64,
            _ => time > i64::MAX as u64,
        };
        (!is_empty).then_some(time)
    });
    let time = u128::from(times.max()?) * u128::from(scale);
    u64::try_from(time.checked_div(u128::from(media_scale))? + 1)
        .ok()
        .filter(|time| *time > 1)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn piece(kind: &[u8; 4], contents: &[&[u8]]) -> Vec<u8> {
        let content = contents.concat();
        let size = (8 + content.len() as u32).to_be_bytes();
        [&size[..], kind, &content].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    const ONE: u32 = 1 << 16;
    const MINUS: u32 = ONE.wrapping_neg();

    /// A track of 25 frames per second with this id, kind, flags, matrix and first time.
    fn trak(id: u32, kind: &[u8; 4], flags: u32, matrix: [u32; 4], start: u32) -> Vec<u8> {
        let [a, b, c, d] = matrix;
        let mut head = vec![flags, 0, 0, id, 0, 5000, 0, 0, 0, 0];
        head.extend([a, b, 0, c, d, 0, 0, 0, 1 << 30, 0, 0]);
        let edits = [0, 1, 5000, start, ONE];
        piece(
            b"trak",
            &[
                &piece(b"tkhd", &[&words(&head)]),
                &piece(b"edts", &[&piece(b"elst", &[&words(&edits)])]),
                &piece(
                    b"mdia",
                    &[
                        &piece(b"mdhd", &[&words(&[0, 0, 0, 25, 200, 0])]),
                        &piece(b"hdlr", &[&words(&[0, 0]), kind, &words(&[0, 0, 0])]),
                    ],
                ),
            ],
        )
    }

    /// A movie of 5 s with these tracks.
    fn moov(tracks: &[Vec<u8>]) -> Vec<u8> {
        let head = piece(b"mvhd", &[&words(&[0, 0, 0, 1000, 5000])]);
        piece(b"moov", &[&head, &tracks.concat()])
    }

    fn of(file: &[u8]) -> Overview {
        Overview::read(&mut Cursor::new(file))
            .expect("no error")
            .expect("is an MP4")
    }

    const UPRIGHT: [u32; 4] = [ONE, 0, 0, ONE];

    #[test]
    fn the_matrix_gives_the_orientation() {
        let matrices = [
            (UPRIGHT, "rotate-0"),
            ([0, ONE, MINUS, 0], "rotate-90"),
            ([MINUS, 0, 0, MINUS], "rotate-180"),
            ([0, MINUS, ONE, 0], "rotate-270"),
            ([MINUS, 0, 0, ONE], "flip-rotate-0"),
            ([0, MINUS, MINUS, 0], "flip-rotate-90"),
            ([ONE, 0, 0, MINUS], "flip-rotate-180"),
            ([0, ONE, ONE, 0], "flip-rotate-270"),
            // Zoomed, and not along the axes.
            ([0, 3 * ONE, MINUS << 1, 0], "rotate-90"),
            ([ONE, ONE, MINUS, ONE], "rotate-0"),
        ];
        for (matrix, tag) in matrices {
            let file = [piece(b"ftyp", &[]), moov(&[trak(1, b"vide", 7, matrix, 0)])].concat();
            let overview = of(&file);
            assert_eq!(overview.tracks[0].orientation.tag(), tag);
            assert_eq!((overview.tracks[0].id, overview.promised), (1, None));
            assert!(overview.corrections.is_empty());
        }
    }

    #[test]
    fn what_the_streams_skip_makes_the_movie_longer() {
        let tracks = [
            trak(1, b"vide", 7, UPRIGHT, 34),
            trak(2, b"soun", 7, UPRIGHT, 3),
        ];
        let file = [piece(b"ftyp", &[]), moov(&tracks)].concat();
        let overview = of(&file);
        assert_eq!(overview.duration_ns, Some(5_000_000_000));
        let [correction] = &overview.corrections[..] else {
            panic!("{overview:?}");
        };
        // 34 of 25 a second are 1360 of 1000.
        assert_eq!(correction.bytes, 6361u32.to_be_bytes());
        let place = correction.offset as usize;
        assert_eq!(file[place..place + 4], 5000u32.to_be_bytes());
    }

    #[test]
    fn the_enabled_video_is_chosen() {
        let tracks = [
            trak(1, b"vide", 0, UPRIGHT, 0),
            trak(2, b"soun", 7, UPRIGHT, 0),
            trak(3, b"vide", 7, UPRIGHT, 0),
        ];
        let mut file = [piece(b"ftyp", &[]), moov(&tracks)].concat();
        let overview = of(&file);
        assert!(super::super::correct(&mut file, 0, &overview.corrections));
        let kinds: Vec<Kind> = of(&file).tracks.iter().map(|track| track.kind).collect();
        assert_eq!(kinds, [Kind::Other, Kind::Audio, Kind::Video]);
        // None is enabled.
        let tracks = [1, 2].map(|id| trak(id, b"vide", 0, UPRIGHT, 0));
        let mut file = moov(&tracks);
        let overview = of(&file);
        super::super::correct(&mut file, 0, &overview.corrections);
        let kinds: Vec<Kind> = of(&file).tracks.iter().map(|track| track.kind).collect();
        assert_eq!(kinds, [Kind::Video, Kind::Other]);
    }

    #[test]
    fn a_file_that_was_cut_says_how_long_it_was() {
        let index = moov(&[trak(1, b"vide", 7, UPRIGHT, 0)]);
        let media = piece(b"mdat", &[&[0; 500]]);
        let fast = [piece(b"ftyp", &[]), index.clone(), media.clone()].concat();
        assert_eq!(of(&fast).promised, None);
        let cut = of(&fast[..fast.len() - 200]);
        assert_eq!(
            (cut.promised, cut.is_unfinished),
            (Some(fast.len() as u64), false)
        );
        // A cut in the index.
        let cut = of(&fast[..100]);
        assert!(cut.promised.is_some() && cut.tracks.is_empty());
        // The index comes last.
        let slow = [piece(b"ftyp", &[]), media, index].concat();
        assert!(!of(&slow).is_unfinished);
        let cut = of(&slow[..300]);
        assert_eq!((cut.promised, cut.is_unfinished), (Some(516), true));
        let unfinished = of(&slow[..516]);
        assert_eq!(
            (unfinished.promised, unfinished.is_unfinished),
            (None, true)
        );
    }

    #[test]
    fn what_follows_the_last_box_is_ignored() {
        let mut file = [piece(b"ftyp", &[]), moov(&[])].concat();
        file.extend(b"\x7f\xff\xff\xffjunk of another program");
        assert_eq!(of(&file).promised, None);
        // A last box up to the end of the file.
        let mut file = [piece(b"ftyp", &[]), moov(&[])].concat();
        file.extend(b"\0\0\0\0mdatand so on");
        assert_eq!((of(&file).promised, of(&file).is_unfinished), (None, false));
        // The same, as a recorder leaves it that lost its power.
        let mut file = piece(b"ftyp", &[]);
        file.extend(b"\0\0\0\0mdatand so on");
        assert_eq!((of(&file).promised, of(&file).is_unfinished), (None, true));
        // Padding that is longer than the file.
        let mut file = [moov(&[]), piece(b"mdat", &[])].concat();
        file.extend(b"\0\0\xff\xfffree");
        assert_eq!(of(&file).promised, None);
    }

    #[test]
    fn pictures_have_no_list_of_frames() {
        let file = [
            piece(b"ftyp", &[]),
            piece(b"meta", &[]),
            piece(b"mdat", &[]),
        ]
        .concat();
        assert_eq!(of(&file).flaw(file.len() as u64), None);
    }

    #[test]
    fn damaged_headers_do_no_harm() {
        let tracks = [
            trak(1, b"vide", 0, UPRIGHT, 34),
            trak(2, b"soun", 7, UPRIGHT, 3),
            trak(3, b"vide", 7, UPRIGHT, 7),
        ];
        let whole = [
            piece(b"ftyp", &[]),
            moov(&tracks),
            piece(b"mdat", &[&[0; 50]]),
        ]
        .concat();
        let mut random = 1u64;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as usize % limit
        };
        for _ in 0..20_000 {
            let mut file = whole.clone();
            for _ in 0..=below(4) {
                let place = below(file.len());
                file[place] = [0, 1, 0x7f, 0x80, 0xff, below(256) as u8][below(6)];
            }
            file.truncate(below(2 * file.len()).max(8));
            let overview = Overview::read(&mut Cursor::new(&file)).expect("no error");
            for correction in overview.unwrap_or_default().corrections {
                let end = correction.offset as usize + correction.bytes.len();
                assert!(end <= file.len(), "replaces what was read");
            }
        }
    }

    #[test]
    fn fragments_need_no_list_of_frames() {
        let head = piece(b"mvhd", &[&words(&[0, 0, 0, 1000, 0])]);
        let length = piece(b"mehd", &[&words(&[0, 5000])]);
        let index = piece(b"moov", &[&head, &piece(b"mvex", &[&length])]);
        let part = [piece(b"moof", &[]), piece(b"mdat", &[&[0; 50]])].concat();
        let file = [piece(b"ftyp", &[]), index, part.clone(), part].concat();
        assert_eq!(of(&file).flaw(file.len() as u64), None);
        assert!(of(&file[..file.len() - 20]).promised.is_some());
        // With B-frames, the last frames come after the stated end.
        assert_eq!(of(&file).corrections[0].bytes, 6000u32.to_be_bytes());
    }
}
