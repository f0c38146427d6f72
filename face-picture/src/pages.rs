//! The pages of a TIFF.

use std::io::Cursor;

use tiff::decoder::Decoder;
use tiff::tags::Tag;

/// The most pages to count.
const MOST: usize = 1000;

/// Reduced copy of another page, in the tag NewSubfileType.
const REDUCED: u32 = 1;

/// How many pages a TIFF has, without reduced copies and those that cannot be read. At least one.
pub fn count(bytes: &[u8]) -> usize {
    let Ok(mut decoder) = Decoder::new(Cursor::new(bytes)) else {
        return 1;
    };
    let mut pages = 1;
    for _ in 0..MOST {
        if !decoder.more_images() || decoder.next_image().is_err() {
            break;
        }
        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType);
        let is_reduced = matches!(kind, Ok(Some(kind)) if kind & REDUCED != 0);
        pages += usize::from(!is_reduced);
    }
    pages
}
