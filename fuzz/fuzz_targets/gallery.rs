//! A gallery's file, read as a small gallery, and as a large one whose exact numbers stay in the
//! file.
#![no_main]

use std::cell::RefCell;
use std::io::{Seek, Write};

use face_gallery::Gallery;
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

thread_local! {
    static FILE: RefCell<NamedTempFile> =
        RefCell::new(NamedTempFile::new().expect("a folder for temporary files"));
}

fn write(data: &[u8], file: &mut NamedTempFile) -> std::io::Result<()> {
    file.as_file_mut().set_len(0)?;
    file.rewind()?;
    file.write_all(data)
}

fuzz_target!(|data: &[u8]| {
    FILE.with_borrow_mut(|file| {
        write(data, file).expect("room for a file");
        for large in [u64::MAX, 0] {
            let Ok(gallery) = Gallery::read_large_from(file.path(), large) else {
                continue;
            };
            let mut query = vec![0.0; gallery.dimensions()];
            query[0] = 1.0;
            let found = gallery.nearest_images(&query, 6);
            assert!(found.len() <= gallery.len().min(6));
            for neighbor in found {
                assert!((0.0..=2.001).contains(&neighbor.distance), "{neighbor:?}");
                gallery.person_name(neighbor.person);
                gallery.row(neighbor.row);
            }
            assert_eq!(gallery.rows().len(), gallery.len());
        }
    });
});
