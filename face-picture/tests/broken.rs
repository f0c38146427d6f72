//! What is not a picture, or not all of one.

use std::os::unix::process::CommandExt;
use std::process::Command;

use face_picture::Error;
use image::{ImageDecoder, ImageFormat};

use crate::kinds::crc32;
use crate::{FORMATS, file, name, noise, read};

#[test]
fn what_is_cut_short_is_no_picture() {
    for format in FORMATS {
        let bytes = noise(format);
        assert!(read(&bytes, &name(format)).is_ok(), "{format:?}");
        for share in [60, 95] {
            let cut = &bytes[..bytes.len() * share / 100];
            let error = read(cut, &name(format)).err();
            let error = error.unwrap_or_else(|| panic!("{format:?} at {share} % is read"));
            assert!(
                matches!(error, Error::CutShort(_)),
                "{format:?} at {share} %: {error}"
            );
        }
    }
}

#[test]
fn damage_is_found_where_the_format_can_tell() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
        let mut bytes = noise(format);
        let middle = bytes.len() / 2;
        let end = (middle + 600).min(bytes.len() - 20);
        bytes[middle..end].fill(0);
        let error = read(&bytes, &name(format)).err();
        let error = error.unwrap_or_else(|| panic!("{format:?} with a hole is read"));
        assert!(matches!(error, Error::Damaged(..)), "{format:?}: {error}");
    }
}

#[test]
fn other_files_are_named_by_what_they_are() {
    for (bytes, said) in [
        (&b""[..], "the file is empty"),
        (b"<html>404</html>", "it is a web page, not a picture"),
        (b"\0\0\0\x18ftypisom\0\0", "it is a video, not a picture"),
        (&[0; 4000], "it is a file of zeros, not a picture"),
        (b"%PDF-1.7", "it is a PDF file, not a picture"),
        (b"8BPS\0\x01", "it is a Photoshop file, not a picture"),
        (
            b"\0\0\0\x0cjP  \r\n\x87\n",
            "it is a JPEG 2000 picture; convert it to JPEG or PNG",
        ),
        (
            b"II*\0\x10\0\0\0CR\x02\0",
            "it is a raw photo; convert it to JPEG or PNG",
        ),
        (b"\x01\x02", "it is not a picture of a known format"),
    ] {
        let error = read(bytes, "photo.jpg").err().expect("no picture");
        assert_eq!(error.to_string(), said);
    }
}

/// Headers that claim far more pixels than there are.
fn absurd() -> Vec<(&'static str, Vec<u8>)> {
    let mut png = file(ImageFormat::Png);
    // Width and height, and the checksum of the chunk that they are in.
    png[16..24].copy_from_slice(&[0x00, 0x01, 0xff, 0xff, 0x00, 0x01, 0xff, 0xff]);
    let crc = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    let mut jpeg = file(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]);
    let size = frame.expect("a baseline frame") + 5;
    jpeg[size..size + 4].fill(0xff);
    let mut gif = file(ImageFormat::Gif);
    gif[6..10].fill(0xff);
    let mut bmp = file(ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0xff, 0x7f, 0, 0, 0xff, 0x7f, 0, 0]);
    let mut qoi = file(ImageFormat::Qoi);
    qoi[4..12].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4a, 0x38]);
    let pnm = b"P6 32767 32767 255\n".to_vec();
    vec![
        ("PNG", png),
        ("JPEG", jpeg),
        ("GIF", gif),
        ("BMP", bmp),
        ("QOI", qoi),
        ("PNM", pnm),
    ]
}

#[test]
fn a_header_may_claim_any_size() {
    for (kind, bytes) in absurd() {
        let error = read(&bytes, "x").err().expect(kind);
        assert!(matches!(error, Error::TooLarge(..)), "{kind}: {error}");
    }
}

/// A PNG with a colour profile of `length` zeros, packed.
fn large_profile(length: usize) -> Vec<u8> {
    let (mut bits, mut count, mut packed) = (0u64, 0, vec![0x78, 0x01]);
    let mut put = |value: u64, length: u32| {
        bits |= value << count;
        count += length;
        while count >= 8 {
            packed.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    // RFC 1951: a last block with fixed codes, a zero, and copies of 258 bytes from one byte before.
    put(0b011, 3);
    put(0b0000_1100, 8);
    for _ in 0..length / 258 {
        put(0b1010_0011, 8);
        put(0, 5);
    }
    put(0, 7 + 7);
    // The Adler-32 of that many zeros (RFC 1950).
    let zeros = (length / 258 * 258 + 1) % 65521;
    packed.extend(((zeros as u32) << 16 | 1).to_be_bytes());
    let content = [&b"iCCPx\0\0"[..], &packed].concat();
    let chunk = [
        &(content.len() as u32 - 4).to_be_bytes()[..],
        &content,
        &crc32(&content).to_be_bytes(),
    ];
    let mut png = file(ImageFormat::Png);
    // Behind the header.
    png.splice(33..33, chunk.concat());
    png
}

#[test]
fn a_small_colour_profile_is_no_error() {
    let png = large_profile(100_000);
    read(&png, "x").expect("a picture");
    let decoder = image::codecs::png::PngDecoder::new(std::io::Cursor::new(&png));
    let profile = decoder.expect("a header").icc_profile().expect("readable");
    assert!(profile.expect("one").len() > 99_000, "as the large one");
}

/// The body of the next test, in a process of its own.
#[test]
#[ignore = "runs in a process with little memory"]
fn absurd_headers_with_little_memory() {
    for (kind, bytes) in absurd() {
        assert!(read(&bytes, "x").is_err(), "{kind}");
        assert!(face_picture::animation(&bytes).is_err() || kind != "GIF");
    }
    let large = large_profile(3 << 30);
    read(&large, "x").expect("the profile does not matter");
    assert!(!face_picture::is_animated(&large));
}

#[test]
fn no_memory_is_taken_for_what_is_only_claimed() {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([
        "broken::absurd_headers_with_little_memory",
        "--exact",
        "--ignored",
    ]);
    let limit = libc::rlimit {
        rlim_cur: 512 << 20,
        rlim_max: 512 << 20,
    };
    // SAFETY: the call is async-signal-safe, and changes only the new process.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = command.output().expect("starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
