use std::path::Path;

use image::ImageError;

use crate::Kind;
use crate::limits::{MOST_BYTES, MOST_PIXELS_A_SIDE};

/// Why a picture cannot be read, in words for users. The text begins in lower case and says the cause once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the file is empty")]
    Empty,
    #[error("it is {0}, not a picture")]
    NoPicture(Kind),
    #[error("it is {0}; convert it to JPEG or PNG")]
    Foreign(Kind),
    #[error("it is not a picture of a known format")]
    Unknown,
    #[error("the {0} is cut short: its end is missing")]
    CutShort(Kind),
    #[error("the {0} is damaged: {1}")]
    Damaged(Kind, String),
    /// A picture that nothing here decodes.
    #[error("this {0} cannot be read: {1}")]
    Unsupported(Kind, String),
    #[error(
        "{0}x{1} pixels; a picture has at most {MOST_PIXELS_A_SIDE} on a side and {most} MiB decoded",
        most = MOST_BYTES >> 20
    )]
    TooLarge(u32, u32),
    #[error("a picture file has at most {most} MiB", most = MOST_BYTES >> 20)]
    TooLong,
    #[error("no memory for {0}x{1} pixels")]
    Memory(u32, u32),
    /// The system lacks libheif.
    #[error("{0} needs libheif; install libheif1 (Debian, Ubuntu), or convert it: heif-convert IN.{extension} OUT.jpg",
        extension = .0.to_string().to_lowercase())]
    NoLibheif(Kind),
    #[error("{0}")]
    Io(String),
}

impl Error {
    /// For a file that is no picture.
    pub(crate) fn not(kind: Kind) -> Self {
        match kind {
            Kind::Empty => Self::Empty,
            Kind::Unknown => Self::Unknown,
            Kind::Raw => Self::Foreign(kind),
            Kind::Other(what) if what.ends_with(" picture") || what.ends_with(" drawing") => {
                Self::Foreign(kind)
            }
            kind => Self::NoPicture(kind),
        }
    }

    pub(crate) fn decoding(kind: Kind, error: &ImageError, (width, height): (u32, u32)) -> Self {
        // The texts of decoders include their causes, some of which end in a line break.
        let said = error.to_string();
        let said = said.trim_end();
        match error {
            _ if is_end(error) => Self::CutShort(kind),
            ImageError::Unsupported(error) => Self::Unsupported(kind, feature(error)),
            ImageError::Limits(_) if width == 0 => {
                Self::Damaged(kind, "its colour profile is too large".into())
            }
            ImageError::Limits(_) => Self::TooLarge(width, height),
            ImageError::Decoding(_) => Self::damaged(kind, &innermost(error)),
            _ => Self::Damaged(kind, said.to_owned()),
        }
    }

    /// With the words of a decoder, where they are words for users.
    fn damaged(kind: Kind, said: &str) -> Self {
        if said.starts_with("CRC error") {
            return Self::Damaged(kind, "a checksum does not fit".into());
        }
        // A decoder's own limit.
        match said.to_ascii_lowercase().contains("too large") {
            true => Self::Unsupported(kind, said.to_owned()),
            false => Self::Damaged(kind, said.to_owned()),
        }
    }

    pub(crate) fn reading(path: &Path, error: std::io::Error) -> Self {
        Self::Io(format!("{}: {error}", path.display()))
    }
}

fn feature(error: &image::error::UnsupportedError) -> String {
    use image::error::UnsupportedErrorKind;
    match error.kind() {
        UnsupportedErrorKind::GenericFeature(what) => what,
        _ => error.to_string(),
    }
}

/// The last cause of an error: those around it only repeat it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string().trim_end().trim_end_matches('.').to_owned()
}

/// Whether the bytes ended before the picture did.
fn is_end(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    // Not all decoders keep the cause.
    let text = error.to_string().to_ascii_lowercase();
    [
        "unexpected eof",
        "unexpected end",
        "failed to fill whole buffer",
        "unexpectedeof",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}
