//! Matroska and WebM (RFC 9559).
//!
//! `matroskademux` of GStreamer 1.22 does not tell how a video is turned, and takes the first one,
//! whichever is the default.

use std::io::{self, Read, Seek};

use super::{Kind, Orientation, Overview, Track, number, read_at};

/// The largest list of streams that is read, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// The most elements before the list of streams.
const MOST_ELEMENTS: usize = 1000;

/// The most streams of a file.
const MOST_TRACKS: usize = 1000;

const EBML: u64 = 0x1A45_DFA3;
const SEGMENT: u64 = 0x1853_8067;
const CLUSTER: u64 = 0x1F43_B675;
const TRACKS: u64 = 0x1654_AE6B;
const TRACK_ENTRY: u64 = 0xAE;
const TRACK_NUMBER: u64 = 0xD7;
const TRACK_TYPE: u64 = 0x83;
const FLAG_ENABLED: u64 = 0xB9;
const FLAG_DEFAULT: u64 = 0x88;
const VIDEO: u64 = 0xE0;
const PROJECTION: u64 = 0x7670;
const POSE_YAW: u64 = 0x7673;
const POSE_PITCH: u64 = 0x7674;
const POSE_ROLL: u64 = 0x7675;

const CODEC: u64 = 0x86;

/// The id of an element without meaning. The demuxer passes over a stream whose codec it does not
/// find.
const VOID: u8 = 0xEC;

/// The head of an element.
struct Head {
    id: u64,
    /// The length of the head.
    length: usize,
    /// The length of the content. `None` if unknown.
    content: Option<u64>,
}

fn head(bytes: &[u8]) -> Option<Head> {
    let id_length = bytes.first()?.leading_zeros() as usize + 1;
    let id = number(bytes.get(..id_length).filter(|id| id.len() <= 4)?);
    let rest = &bytes[id_length..];
    let size_length = rest.first()?.leading_zeros() as usize + 1;
    let size = number(rest.get(..size_length).filter(|size| size.len() <= 8)?);
    let all = (1 << (7 * size_length)) - 1;
    let size = size & all;
    Some(Head {
        id,
        length: id_length + size_length,
        content: (size != all).then_some(size),
    })
}

/// An element in memory.
#[derive(Clone, Copy)]
struct Element<'a> {
    id: u64,
    content: &'a [u8],
    /// Where it and its content are in the file.
    start: u64,
    place: u64,
}

impl<'a> Element<'a> {
    fn elements(self) -> impl Iterator<Item = Element<'a>> {
        let mut rest = self.content;
        let mut place = self.place;
        std::iter::from_fn(move || {
            let head = head(rest)?;
            let end = head
                .length
                .checked_add(usize::try_from(head.content?).ok()?)?;
            let element = Element {
                id: head.id,
                content: rest.get(head.length..end)?,
                start: place,
                place: place + head.length as u64,
            };
            rest = &rest[end..];
            place += end as u64;
            Some(element)
        })
    }

    fn find(self, id: u64) -> Option<Element<'a>> {
        self.elements().find(|element| element.id == id)
    }

    /// A number in one of its elements.
    fn number(self, id: u64) -> Option<u64> {
        self.find(id).map(|element| number(element.content))
    }

    /// An angle in one of its elements, in degrees.
    fn angle(self, id: u64) -> f64 {
        let angle = self.find(id).map(|element| element.content);
        match angle {
            Some(&[a, b, c, d]) => f32::from_be_bytes([a, b, c, d]).into(),
            Some(&[a, b, c, d, e, f, g, h]) => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => 0.0,
        }
    }
}

/// Reads the headers of a Matroska file. `None` for other formats.
pub fn read<R: Read + Seek>(file: &mut R, length: u64) -> io::Result<Option<Overview>> {
    /// The longest head of an element.
    const HEAD: u64 = 12;
    let bytes = read_at(file, 0, HEAD)?;
    let Some(ebml) = head(&bytes).filter(|head| head.id == EBML) else {
        return Ok(None);
    };
    let mut overview = Overview::default();
    let mut place = (ebml.length as u64).saturating_add(ebml.content.unwrap_or(0));
    for _ in 0..MOST_ELEMENTS {
        if place >= length {
            break;
        }
        let bytes = read_at(file, place, HEAD)?;
        let Some(head) = head(&bytes) else { break };
        place += head.length as u64;
        match (head.id, head.content) {
            (SEGMENT, content) => {
                overview.promised = content.map(|content| place.saturating_add(content));
                continue;
            }
            (TRACKS, Some(content)) => {
                let bytes = read_at(file, place, content.min(MOST_BYTES))?;
                let list = Element {
                    id: TRACKS,
                    content: &bytes,
                    start: place,
                    place,
                };
                let entries = list.elements().filter(|e| e.id == TRACK_ENTRY);
                let tracks = entries.take(MOST_TRACKS).filter_map(track);
                overview.tracks = tracks.collect();
                overview.hide(Kind::Video, &[VOID]);
                overview.hide(Kind::Audio, &[VOID]);
                break;
            }
            (CLUSTER, _) | (_, None) => break,
            (_, Some(content)) => place = place.saturating_add(content),
        }
    }
    Ok(Some(overview))
}

fn track(entry: Element) -> Option<Track> {
    let flag = |id| entry.number(id).is_none_or(|flag| flag != 0);
    let video = entry.find(VIDEO);
    let projection = video.and_then(|video| video.find(PROJECTION));
    Some(Track {
        id: entry.number(TRACK_NUMBER)?,
        kind: match entry.number(TRACK_TYPE)? {
            1 => Kind::Video,
            2 => Kind::Audio,
            _ => Kind::Other,
        },
        is_default: flag(FLAG_ENABLED) && flag(FLAG_DEFAULT),
        orientation: projection.and_then(orientation).unwrap_or_default(),
        place: entry.find(CODEC)?.start,
    })
}

/// The orientation of a projection that stays in its plane. Roll turns counter-clockwise; a yaw of
/// 180° shows the back, which is the mirrored picture.
fn orientation(projection: Element) -> Option<Orientation> {
    let yaw = projection.angle(POSE_YAW);
    let mirrored = yaw.abs() == 180.0;
    if projection.angle(POSE_PITCH) != 0.0 || !mirrored && yaw != 0.0 {
        return None;
    }
    let quarters = projection.angle(POSE_ROLL) / 90.0;
    if quarters.fract() != 0.0 || quarters.abs() > 2.0 {
        return None;
    }
    Some(Orientation {
        mirrored,
        turns: (-quarters).rem_euclid(4.0) as u8,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::correct;
    use super::*;

    fn element(id: u64, contents: &[&[u8]]) -> Vec<u8> {
        let content = contents.concat();
        let id: Vec<u8> = id
            .to_be_bytes()
            .into_iter()
            .skip_while(|b| *b == 0)
            .collect();
        let size = (1 << 28 | content.len() as u32).to_be_bytes();
        [&id[..], &size, &content].concat()
    }

    fn entry(number: u8, kind: u8, flags: &[u8], video: &[u8]) -> Vec<u8> {
        element(
            TRACK_ENTRY,
            &[
                &element(TRACK_NUMBER, &[&[number]]),
                &element(TRACK_TYPE, &[&[kind]]),
                &element(CODEC, &[b"V_VP8"]),
                flags,
                &element(VIDEO, &[video]),
            ],
        )
    }

    fn pose(yaw: f32, roll: f32) -> Vec<u8> {
        element(
            PROJECTION,
            &[
                &element(POSE_YAW, &[&yaw.to_be_bytes()]),
                &element(POSE_ROLL, &[&roll.to_be_bytes()]),
            ],
        )
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        let tracks = element(TRACKS, &[&entries.concat()]);
        let cluster = element(CLUSTER, &[&[0; 100]]);
        [
            element(EBML, &[&[0; 20]]),
            element(SEGMENT, &[&element(0x114D_9B74, &[]), &tracks, &cluster]),
        ]
        .concat()
    }

    fn of(file: &[u8]) -> Overview {
        Overview::read(&mut Cursor::new(file))
            .expect("no error")
            .expect("is Matroska")
    }

    #[test]
    fn the_pose_gives_the_orientation() {
        for (yaw, roll, tag) in [
            (0.0, 0.0, "rotate-0"),
            (0.0, -90.0, "rotate-90"),
            (0.0, 180.0, "rotate-180"),
            (0.0, -180.0, "rotate-180"),
            (0.0, 90.0, "rotate-270"),
            (180.0, 0.0, "flip-rotate-0"),
            (-180.0, 180.0, "flip-rotate-180"),
            // As ffmpeg writes the orientations 5 and 7 of Exif.
            (180.0, 90.0, "flip-rotate-270"),
            (180.0, -90.0, "flip-rotate-90"),
            // Neither is in the plane of the picture, or along the axes.
            (30.0, 90.0, "rotate-0"),
            (0.0, 45.0, "rotate-0"),
            (0.0, f32::NAN, "rotate-0"),
        ] {
            let overview = of(&file(&[entry(1, 1, &[], &pose(yaw, roll))]));
            assert_eq!(overview.tracks[0].orientation.tag(), tag, "{yaw} {roll}");
        }
    }

    #[test]
    fn the_default_video_is_chosen() {
        let off = element(FLAG_DEFAULT, &[&[0]]);
        let entries = [
            entry(1, 1, &off, &[]),
            entry(2, 2, &[], &[]),
            entry(3, 1, &[], &[]),
        ];
        let mut file = file(&entries);
        let overview = of(&file);
        assert!(correct(&mut file, 0, &overview.corrections));
        let kinds: Vec<Kind> = of(&file).tracks.iter().map(|track| track.kind).collect();
        assert_eq!(kinds, [Kind::Audio, Kind::Video]);
    }

    #[test]
    fn a_file_that_was_cut_says_how_long_it_was() {
        let file = file(&[entry(1, 1, &[], &[])]);
        assert_eq!(of(&file).promised, None);
        assert_eq!(
            of(&file[..file.len() - 50]).promised,
            Some(file.len() as u64)
        );
        // A live stream does not know how long it will be.
        let live = [
            element(EBML, &[]),
            b"\x18\x53\x80\x67\x01".to_vec(),
            vec![0xff; 7],
        ]
        .concat();
        assert_eq!(of(&live).promised, None);
    }
}
