//! What a file is, by its first bytes or by its name.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use image::ImageFormat;

/// How many bytes at the start of a file tell what it is.
pub const HEAD: usize = 512;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    Avif,
    Bmp,
    Gif,
    Heic,
    Ico,
    Jpeg,
    Png,
    Pnm,
    Qoi,
    /// Has no signature: known by its name only.
    Tga,
    Tiff,
    WebP,
    /// A raw photo of a camera.
    Raw,
    Video,
    /// Something else, as a noun with its article.
    Other(&'static str),
    Empty,
    Unknown,
}

impl Kind {
    /// The format for the crate `image`.
    pub(crate) fn format(self) -> Option<ImageFormat> {
        Some(match self {
            Self::Bmp => ImageFormat::Bmp,
            Self::Gif => ImageFormat::Gif,
            Self::Ico => ImageFormat::Ico,
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Png => ImageFormat::Png,
            Self::Pnm => ImageFormat::Pnm,
            Self::Qoi => ImageFormat::Qoi,
            Self::Tga => ImageFormat::Tga,
            Self::Tiff => ImageFormat::Tiff,
            Self::WebP => ImageFormat::WebP,
            _ => return None,
        })
    }

    /// Whether [`decode`](crate::decode) reads such files.
    pub fn is_picture(self) -> bool {
        self.format().is_some() || matches!(self, Self::Heic | Self::Avif)
    }

    /// What `bytes`, the file's first [`HEAD`] or all of them, begin.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        let has = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|b| b.starts_with(magic));
        if has(4, b"ftyp") {
            return of_brand(bytes.get(8..12).unwrap_or_default());
        }
        let raw = has(8, b"CR\x02") || starts(b"FUJIFILM") || starts(b"IIRO") || starts(b"IIU\0");
        if raw {
            return Self::Raw;
        }
        for (magic, kind) in SIGNATURES {
            if starts(magic) {
                return *kind;
            }
        }
        if starts(b"RIFF") {
            return match bytes.get(8..12) {
                Some(b"WEBP") => Self::WebP,
                Some(b"AVI ") => Self::Video,
                _ => Self::Other("a sound file"),
            };
        }
        // An icon with at least one picture, or a cursor.
        if bytes.len() > 6 && matches!(bytes[..4], [0, 0, 1 | 2, 0]) && bytes[4] > 0 {
            return Self::Ico;
        }
        // Texts may begin like these, too.
        if starts(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
            return Self::Bmp;
        }
        if let [b'P', b'1'..=b'7', space, number, ..] = bytes
            && space.is_ascii_whitespace()
            && (number.is_ascii_digit() || matches!(number, b'#' | b'W'))
        {
            return Self::Pnm;
        }
        // MPEG-TS, and the same with a time code in front of each packet.
        let packets =
            |start: usize, length: usize| (0..3).all(|i| has(start + i * length, b"\x47"));
        if packets(0, 188) || packets(4, 192) {
            return Self::Video;
        }
        if has(4, b"moov") || has(4, b"mdat") || has(4, b"wide") {
            return Self::Video;
        }
        if has(128, b"DICM") {
            return Self::Other("a DICOM file");
        }
        if prefix(bytes).is_some() {
            return Self::Jpeg;
        }
        of_text(bytes)
    }

    /// What a file is by its name. `None` if the name says nothing.
    pub fn by_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        let of = |list: &[&str]| list.contains(&extension.as_str());
        for (kind, extensions) in EXTENSIONS {
            if of(extensions) {
                return Some(*kind);
            }
        }
        None
    }

    /// What the file at `path` is, by its first bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD);
        File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
        Ok(Self::of(&head).or_by_name(path))
    }

    /// For kinds that contents do not tell.
    pub(crate) fn or_by_name(self, path: &Path) -> Self {
        match (self, Self::by_name(path)) {
            // Most raw formats are TIFF, with a thumbnail as their first picture.
            (Self::Tiff, Some(Self::Raw)) => Self::Raw,
            // One JPEG behind the other.
            (Self::Jpeg, Some(Self::Video)) if is_motion_jpeg(path) => Self::Video,
            // Any bytes may be the header of a TGA.
            (Self::Unknown | Self::Ico, Some(Self::Tga)) => Self::Tga,
            (kind, _) => kind,
        }
    }
}

/// As a noun: `JPEG`, `a web page`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avif => "AVIF",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Heic => "HEIC",
            Self::Ico => "ICO",
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Pnm => "PNM",
            Self::Qoi => "QOI",
            Self::Tga => "TGA",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
            Self::Raw => "a raw photo",
            Self::Video => "a video",
            Self::Other(what) => what,
            Self::Empty => "an empty file",
            Self::Unknown => "a file of an unknown format",
        })
    }
}

fn is_motion_jpeg(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["mjpeg", "mjpg"]
        .iter()
        .any(|name| extension.eq_ignore_ascii_case(name))
}

const SIGNATURES: &[(&[u8], Kind)] = &[
    (b"\xff\xd8\xff", Kind::Jpeg),
    (b"\x89PNG\r\n\x1a\n", Kind::Png),
    (b"GIF87a", Kind::Gif),
    (b"GIF89a", Kind::Gif),
    (b"II*\0", Kind::Tiff),
    (b"MM\0*", Kind::Tiff),
    (b"II+\0", Kind::Tiff),
    (b"MM\0+", Kind::Tiff),
    (b"qoif", Kind::Qoi),
    (b"\x1aE\xdf\xa3", Kind::Video),
    (b"FLV\x01", Kind::Video),
    (b"YUV4MPEG2", Kind::Video),
    (b"\0\0\x01\xba", Kind::Video),
    (b"\0\0\x01\xb3", Kind::Video),
    (b"\x30\x26\xb2\x75", Kind::Video),
    (b"OggS", Kind::Video),
    (b"\x06\x0e\x2b\x34", Kind::Video),
    (b"ID3", Kind::Other("a sound file")),
    (b"fLaC", Kind::Other("a sound file")),
    (b"\0\0\0\x0cjP  ", Kind::Other("a JPEG 2000 picture")),
    (b"\xff\x4f\xff\x51", Kind::Other("a JPEG 2000 picture")),
    (b"\0\0\0\x0cJXL ", Kind::Other("a JPEG XL picture")),
    (b"\xff\x0a", Kind::Other("a JPEG XL picture")),
    (b"8BPS", Kind::Other("a Photoshop file")),
    (b"%PDF", Kind::Other("a PDF file")),
    (b"%!PS", Kind::Other("a PostScript file")),
    (b"\xc5\xd0\xd3\xc6", Kind::Other("a PostScript file")),
    (b"PK\x03\x04", Kind::Other("an archive")),
    (b"\x1f\x8b", Kind::Other("an archive")),
    (b"Rar!", Kind::Other("an archive")),
    (b"\x0a\x05\x01\x08", Kind::Other("a PCX picture")),
    (b"\x01\xda", Kind::Other("an SGI picture")),
    (b"v/1\x01", Kind::Other("an OpenEXR picture")),
    (b"#?RADIANCE", Kind::Other("a Radiance picture")),
    (b"DDS ", Kind::Other("a DDS picture")),
    (b"SQLite format 3\0", Kind::Other("a database")),
];

const EXTENSIONS: &[(Kind, &[&str])] = &[
    (Kind::Jpeg, &["jpg", "jpeg", "jpe", "jfif", "jif", "mpo"]),
    (Kind::Png, &["png", "apng"]),
    (Kind::Gif, &["gif"]),
    (Kind::WebP, &["webp"]),
    (Kind::Tiff, &["tif", "tiff"]),
    (Kind::Bmp, &["bmp"]),
    (Kind::Ico, &["ico"]),
    (Kind::Pnm, &["pbm", "pgm", "ppm", "pam", "pnm"]),
    (Kind::Qoi, &["qoi"]),
    (Kind::Tga, &["tga"]),
    (Kind::Heic, &["heic", "heif", "hif"]),
    (Kind::Avif, &["avif"]),
    (
        Kind::Raw,
        &[
            "3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mrw", "nef",
            "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
        ],
    ),
    (
        Kind::Video,
        &[
            "3g2", "3gp", "3gpp", "asf", "avi", "divx", "dv", "f4v", "flv", "insv", "lrv", "m2ts",
            "m2v", "m4v", "mjpeg", "mjpg", "mkv", "mod", "mov", "mp4", "mpeg", "mpg", "mpv", "mts",
            "mxf", "ogm", "ogv", "qt", "tod", "trp", "ts", "vob", "webm", "wmv", "y4m",
        ],
    ),
    (
        Kind::Other("a JPEG 2000 picture"),
        &["jp2", "j2k", "jpf", "jpx"],
    ),
    (Kind::Other("a JPEG XL picture"), &["jxl"]),
    (Kind::Other("a Photoshop file"), &["psd", "psb"]),
];

/// The brand of an ISO base media file (ISO/IEC 14496-12).
fn of_brand(brand: &[u8]) -> Kind {
    match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => Kind::Heic,
        b"avif" | b"avis" => Kind::Avif,
        b"crx " => Kind::Raw,
        b"jp2 " | b"jpx " => Kind::Other("a JPEG 2000 picture"),
        b"jxl " => Kind::Other("a JPEG XL picture"),
        _ => Kind::Video,
    }
}

/// The bytes in front of a JPEG: the rest of an HTTP or mail header, which some tools leave there.
pub(crate) fn prefix(bytes: &[u8]) -> Option<usize> {
    const MOST: usize = 16;
    let mut starts = bytes.windows(3).take(MOST + 1);
    let at = starts.position(|start| start == b"\xff\xd8\xff")?;
    bytes[..at]
        .iter()
        .all(u8::is_ascii_whitespace)
        .then_some(at)
}

/// Kinds of text.
fn of_text(bytes: &[u8]) -> Kind {
    let head = &bytes[..bytes.len().min(HEAD)];
    if head.iter().all(|byte| *byte == 0) {
        return Kind::Other("a file of zeros");
    }
    // UTF-8 with a mark, and without; a character may be cut at the end.
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return Kind::Unknown,
    };
    let is_plain = |c: char| !c.is_control() || c.is_ascii_whitespace();
    let lower = text.trim_start().to_ascii_lowercase();
    if lower.is_empty() || !text.chars().all(is_plain) {
        return Kind::Unknown;
    }
    if lower.starts_with("<!doctype html") || lower.contains("<html") {
        return Kind::Other("a web page");
    }
    if lower.contains("<svg") {
        return Kind::Other("an SVG drawing");
    }
    Kind::Other("a text file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_tell_what_a_file_is() {
        let mut ts = vec![0; 400];
        (ts[0], ts[188], ts[376]) = (0x47, 0x47, 0x47);
        for (bytes, kind) in [
            (&b""[..], Kind::Empty),
            (b"\xff\xd8\xff\xe0", Kind::Jpeg),
            (b"\r\n\r\n\xff\xd8\xff\xe0", Kind::Jpeg),
            (b"P6 3 2 255\n", Kind::Pnm),
            (b"PK\x03\x04", Kind::Other("an archive")),
            (b"II*\0\x10\0\0\0CR\x02\0", Kind::Raw),
            (b"\0\0\0\x18ftypheic", Kind::Heic),
            (b"\0\0\0\x18ftypavif", Kind::Avif),
            (b"\0\0\0\x18ftypisom", Kind::Video),
            (b"RIFF\0\0\0\0WEBPVP8 ", Kind::WebP),
            (b"RIFF\0\0\0\0AVI LIST", Kind::Video),
            (&ts, Kind::Video),
            (b" <!DOCTYPE html><html>", Kind::Other("a web page")),
            (b"<?xml version='1.0'?><svg>", Kind::Other("an SVG drawing")),
            ("naïve".as_bytes(), Kind::Other("a text file")),
            (&[0; 100], Kind::Other("a file of zeros")),
            (b"BMW and others", Kind::Other("a text file")),
            (b"P5 is next", Kind::Other("a text file")),
            (b"\x01\x02\x03", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn names_decide_where_contents_cannot() {
        let name = |name: &str| Kind::by_name(Path::new(name));
        assert_eq!(name("A.JPE"), Some(Kind::Jpeg));
        assert_eq!(name("x/IMG_1.HEIC"), Some(Kind::Heic));
        assert_eq!(name("IMG_1.MOV"), Some(Kind::Video));
        assert_eq!((name("notes.txt"), name("noext")), (None, None));
        let nef = Path::new("1.NEF");
        assert_eq!(Kind::Tiff.or_by_name(nef), Kind::Raw);
        assert_eq!(Kind::Jpeg.or_by_name(nef), Kind::Jpeg);
        assert_eq!(Kind::Jpeg.or_by_name(Path::new("a.MJPG")), Kind::Video);
        assert_eq!(Kind::Jpeg.or_by_name(Path::new("a.mp4")), Kind::Jpeg);
        assert_eq!(Kind::Unknown.or_by_name(Path::new("a.tga")), Kind::Tga);
    }
}
