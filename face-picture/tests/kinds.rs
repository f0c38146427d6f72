//! What cameras, scanners and editors write.

use image::{DynamicImage, ImageFormat, Luma, Rgb, Rgba};
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::CMYK8;

use crate::{FORMATS, RED, SIZE, assert_colors, colors, file, name, noise, read, write};

#[test]
fn every_format_is_read_whatever_its_suffix() {
    for format in FORMATS {
        let bytes = file(format);
        let picture = read(&bytes, &name(format)).expect("readable");
        assert_colors(&picture.image, &name(format));
        // TGA has no signature.
        if format != ImageFormat::Tga {
            let picture = read(&bytes, "sent.jpg").expect("readable");
            assert_colors(&picture.image, &format!("{format:?} as .jpg"));
        }
    }
}

/// The bytes of EXIF data that hold nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    exif
}

/// A JPEG with one more segment in front.
fn with_segment(jpeg: &[u8], content: &[u8]) -> Vec<u8> {
    let length = (content.len() + 2) as u16;
    [
        &jpeg[..2],
        &[0xff, 0xe1],
        &length.to_be_bytes(),
        content,
        &jpeg[2..],
    ]
    .concat()
}

/// As PNG's chunks have it.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A PNG with one more chunk at `at`.
fn with_chunk(png: &[u8], at: usize, name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [&name[..], content].concat();
    let length = (content.len() as u32).to_be_bytes();
    let crc = crc32(&body).to_be_bytes();
    [&png[..at], &length, &body, &crc, &png[at..]].concat()
}

/// A WebP in the extended form with EXIF data behind the picture.
fn webp_with_exif(webp: &[u8], (width, height): (u32, u32), exif: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8], content: &[u8]| {
        let padding = vec![0; content.len() % 2];
        [
            name,
            &(content.len() as u32).to_le_bytes(),
            content,
            &padding,
        ]
        .concat()
    };
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let header = [vec![0x08, 0, 0, 0], side(width), side(height)].concat();
    let body = [
        b"WEBP".to_vec(),
        chunk(b"VP8X", &header),
        webp[12..].to_vec(),
        chunk(b"EXIF", exif),
    ];
    let body = body.concat();
    [
        b"RIFF".to_vec(),
        (body.len() as u32).to_le_bytes().to_vec(),
        body,
    ]
    .concat()
}

/// How a picture has to be stored so that it is upright with this orientation.
fn stored(orientation: u8) -> DynamicImage {
    let upright = DynamicImage::from(colors());
    match orientation {
        2 => upright.fliph(),
        3 => upright.rotate180(),
        4 => upright.flipv(),
        5 => upright.rotate90().fliph(),
        6 => upright.rotate270(),
        7 => upright.rotate270().fliph(),
        8 => upright.rotate90(),
        _ => upright,
    }
}

/// A TIFF with another value in its orientation tag, which takes the place of its resolution unit.
fn tiff_with(orientation: u8, picture: &DynamicImage) -> Vec<u8> {
    let mut tiff = write(picture, ImageFormat::Tiff);
    let directory = u32::from_le_bytes(tiff[4..8].try_into().expect("four")) as usize;
    let count = usize::from(u16::from_le_bytes([tiff[directory], tiff[directory + 1]]));
    let mut entries: Vec<[u8; 12]> = (0..count)
        .map(|i| {
            tiff[directory + 2 + 12 * i..][..12]
                .try_into()
                .expect("twelve")
        })
        .collect();
    let tag = |entry: &[u8; 12]| u16::from_le_bytes([entry[0], entry[1]]);
    entries.retain(|entry| tag(entry) != 296);
    assert_eq!(
        entries.len(),
        count - 1,
        "the encoder writes a resolution unit"
    );
    entries.push([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    entries.sort_by_key(tag);
    for (i, entry) in entries.iter().enumerate() {
        tiff[directory + 2 + 12 * i..][..12].copy_from_slice(entry);
    }
    tiff
}

#[test]
fn all_eight_orientations_are_turned_upright() {
    for orientation in 1..=8 {
        let picture = stored(orientation);
        let size = (picture.width(), picture.height());
        let exif = exif(orientation);
        let jpeg = write(&picture, ImageFormat::Jpeg);
        let png = write(&picture, ImageFormat::Png);
        let webp = write(&picture, ImageFormat::WebP);
        let xmp = format!(
            "http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation=\"{orientation}\"/>\
             </x:xmpmeta>"
        );
        for (what, bytes) in [
            (
                "JPEG",
                with_segment(&jpeg, &[b"Exif\0\0", &exif[..]].concat()),
            ),
            ("JPEG with XMP", with_segment(&jpeg, xmp.as_bytes())),
            ("PNG", with_chunk(&png, 33, b"eXIf", &exif)),
            (
                "PNG, behind the pixels",
                with_chunk(&png, png.len() - 12, b"eXIf", &exif),
            ),
            ("WebP", webp_with_exif(&webp, size, &exif)),
            ("TIFF", tiff_with(orientation, &picture)),
        ] {
            let picture = read(&bytes, "photo").expect("readable");
            assert_colors(
                &picture.image,
                &format!("{what}, orientation {orientation}"),
            );
        }
    }
}

#[test]
fn an_orientation_that_does_not_exist_is_none() {
    let jpeg = with_segment(
        &file(ImageFormat::Jpeg),
        &[b"Exif\0\0", &exif(9)[..]].concat(),
    );
    assert_colors(&read(&jpeg, "x").expect("readable").image, "orientation 9");
}

#[test]
fn grey_deep_and_transparent_pictures_become_rgb() {
    let picture = DynamicImage::from(colors());
    let deep = DynamicImage::from(picture.to_rgb16());
    for (what, bytes) in [
        ("16-bit PNG", write(&deep, ImageFormat::Png)),
        ("16-bit TIFF", write(&deep, ImageFormat::Tiff)),
        (
            "PNG with alpha",
            write(&picture.to_rgba8().into(), ImageFormat::Png),
        ),
        (
            "16-bit alpha",
            write(&picture.to_rgba16().into(), ImageFormat::Png),
        ),
        (
            "float TIFF",
            write(&picture.to_rgb32f().into(), ImageFormat::Tiff),
        ),
    ] {
        assert_colors(&read(&bytes, "x").expect("readable").image, what);
    }
    for (what, grey) in [
        ("grey", DynamicImage::from(picture.to_luma8())),
        ("grey with alpha", picture.to_luma_alpha8().into()),
        ("16-bit grey", picture.to_luma16().into()),
    ] {
        let Luma([expected]) = *picture.to_luma8().get_pixel(8, 8);
        let read = read(&write(&grey, ImageFormat::Png), "x").expect("readable");
        assert_eq!(read.image.dimensions(), SIZE, "{what}");
        let Rgb(found) = *read.image.get_pixel(8, 8);
        assert!(
            found.iter().all(|v| v.abs_diff(expected) < 3),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn cmyk_pictures_have_their_colours() {
    let colors = colors();
    let cmyk = colors.pixels().flat_map(|Rgb(c)| {
        let [c, m, y] = c.map(|v| 255 - v);
        [c, m, y, 0]
    });
    let cmyk: Vec<u8> = cmyk.collect();
    let mut tiff = std::io::Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut tiff).expect("writable");
    let written = encoder.write_image::<CMYK8>(SIZE.0, SIZE.1, &cmyk);
    written.expect("an encoder");
    let read = read(&tiff.into_inner(), "scan.tif").expect("readable");
    assert_colors(&read.image, "CMYK TIFF");
}

#[test]
fn hidden_colours_stay_hidden() {
    let cut_out = DynamicImage::from(image::RgbaImage::from_fn(SIZE.0, SIZE.1, |x, _| {
        match x < 24 {
            true => Rgba([255, 0, 255, 0]),
            false => Rgba([RED[0], RED[1], RED[2], 255]),
        }
    }));
    let picture = read(&write(&cut_out, ImageFormat::Png), "x").expect("readable");
    assert_eq!(picture.image.get_pixel(2, 2).0, [128; 3]);
    assert_eq!(picture.image.get_pixel(40, 2).0, RED);
}

#[test]
fn what_stands_around_a_jpeg_does_not_matter() {
    let jpeg = file(ImageFormat::Jpeg);
    let mut behind = jpeg.clone();
    behind.extend([0; 4096]);
    let motion = [
        &jpeg[..],
        b"\0\0\0\x18ftypmp42",
        &noise(ImageFormat::Jpeg)[..500],
    ]
    .concat();
    let mail = [b"\r\n", &jpeg[..]].concat();
    for (what, bytes) in [
        ("zeros", behind),
        ("a video", motion),
        ("line breaks", mail),
    ] {
        assert_colors(&read(&bytes, "x.jpg").expect(what).image, what);
    }
}

#[test]
fn the_pages_of_a_tiff_are_counted() {
    let one = file(ImageFormat::Tiff);
    assert_eq!(read(&one, "x.tif").expect("readable").notes, [""; 0]);
    // A second directory, which is that of the first page again.
    let directory = u32::from_le_bytes(one[4..8].try_into().expect("four")) as usize;
    let count = usize::from(u16::from_le_bytes([one[directory], one[directory + 1]]));
    let length = 2 + 12 * count;
    let mut two = one.clone();
    let at = (two.len() as u32).next_multiple_of(2);
    two.resize(at as usize, 0);
    two[directory + length..][..4].copy_from_slice(&at.to_le_bytes());
    two.extend_from_slice(&one[directory..directory + length]);
    two.extend([0; 4]);
    let read = read(&two, "x.tif").expect("readable");
    assert_colors(&read.image, "two pages");
    assert_eq!(read.notes, ["2 pages; the first is used"]);
}
