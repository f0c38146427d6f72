//! How a picture is to be turned.

use image::ImageDecoder;
use image::metadata::Orientation;

use crate::Kind;

/// The orientation of a picture: that of its EXIF data or, without one there, that of its XMP data.
pub fn of(decoder: &mut impl ImageDecoder, kind: Kind, bytes: &[u8]) -> Orientation {
    // What cannot be read there says nothing of the picture.
    let exif = decoder.exif_metadata().ok().flatten();
    let exif = exif.or_else(|| match kind {
        Kind::Png => png_exif(bytes).map(<[u8]>::to_vec),
        _ => None,
    });
    if let Some(told) = exif.and_then(|exif| Orientation::from_exif_chunk(&exif)) {
        return told;
    }
    // TIFF has a tag of its own.
    match decoder.orientation() {
        Ok(told) if told != Orientation::NoTransforms => return told,
        _ => {}
    }
    let xmp = decoder.xmp_metadata().ok().flatten();
    xmp.and_then(|xmp| of_xmp(&xmp))
        .unwrap_or(Orientation::NoTransforms)
}

/// The property `tiff:Orientation` of an XMP packet, as an attribute or an element.
fn of_xmp(xmp: &[u8]) -> Option<Orientation> {
    const NAME: &[u8] = b"tiff:Orientation";
    let at = xmp.windows(NAME.len()).position(|part| part == NAME)?;
    let value = xmp[at + NAME.len()..].iter();
    let mut value = value.skip_while(|byte| matches!(byte, b'=' | b'"' | b'\'' | b'>' | b' '));
    let digit = value.next().filter(|byte| byte.is_ascii_digit())?;
    // A number of several digits is none of the eight.
    match value.next() {
        Some(next) if next.is_ascii_digit() => None,
        _ => Orientation::from_exif(digit - b'0'),
    }
}

/// The EXIF data of a PNG whose chunk stands behind the pixels, as some programs write it.
fn png_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let data = rest.get(8..)?.get(..length)?;
        if rest.get(4..8)? == b"eXIf" {
            return Some(data);
        }
        // Behind the data is a checksum.
        rest = rest.get(8 + length + 4..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xmp_says_it_in_two_ways() {
        let told = |text: &str| of_xmp(text.as_bytes());
        assert_eq!(
            told(r#"<rdf:Description tiff:Orientation="6"/>"#),
            Some(Orientation::Rotate90)
        );
        assert_eq!(
            told("<tiff:Orientation>3</tiff:Orientation>"),
            Some(Orientation::Rotate180)
        );
        for nothing in [
            "",
            "tiff:Orientation",
            r#"tiff:Orientation="9""#,
            r#"tiff:Orientation="10""#,
        ] {
            assert_eq!(told(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn png_chunks_are_found_behind_the_pixels() {
        let chunk = |name: &[u8; 4], data: &[u8]| {
            [&(data.len() as u32).to_be_bytes()[..], name, data, &[0; 4]].concat()
        };
        let png = [
            &b"\x89PNG\r\n\x1a\n"[..],
            &chunk(b"IDAT", b"abc"),
            &chunk(b"eXIf", b"MM"),
        ]
        .concat();
        assert_eq!(png_exif(&png), Some(&b"MM"[..]));
        assert_eq!(png_exif(&png[..png.len() - 6]), None);
        let endless = [&png[..8], &[0xff; 40]].concat();
        assert_eq!(png_exif(&endless), None);
    }
}
