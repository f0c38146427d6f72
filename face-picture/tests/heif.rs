//! HEIC and AVIF, where the system has libheif. The files were drawn for this test.

use face_picture::{Error, Kind};

use crate::{assert_colors, read};

const FILES: [(&str, Kind, &[u8]); 2] = [
    (
        "colors.heic",
        Kind::Heic,
        include_bytes!("data/colors.heic"),
    ),
    (
        "colors.avif",
        Kind::Avif,
        include_bytes!("data/colors.avif"),
    ),
];

#[test]
fn pictures_of_phones_are_read() {
    for (name, kind, bytes) in FILES {
        let picture = match read(bytes, name) {
            Err(Error::NoLibheif(_)) if !face_picture::has_libheif() => {
                eprintln!("skipped: libheif is not installed");
                return;
            }
            // Some systems have a decoder for one of them only.
            Err(Error::Unsupported(_, why)) => {
                eprintln!("skipped: {name}: {why}");
                continue;
            }
            picture => picture.expect(name),
        };
        assert_eq!(picture.kind, kind);
        assert_colors(&picture.image, name);
    }
}

#[test]
fn a_part_of_one_is_an_error() {
    for (name, _, bytes) in FILES {
        for length in [24, bytes.len() / 2, bytes.len() - 30] {
            let error = read(&bytes[..length], name).err().expect("cut short");
            let said = error.to_string();
            assert!(
                said.contains("HEIC") || said.contains("AVIF"),
                "{name}: {said}"
            );
        }
    }
}
