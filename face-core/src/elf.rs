//! Whether a shared object is complete. The dynamic loader maps a truncated file like any other,
//! and the process then dies of SIGBUS. This checks the sizes in the file's headers first.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const HEADER: usize = 64;
const SEGMENT: usize = 56;

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    let found = bytes.get(at..at + N).unwrap_or_default();
    value[..found.len()].copy_from_slice(found);
    u64::from_le_bytes(value)
}

/// The length that the headers of a 64-bit little-endian ELF file demand. `None` for other files,
/// which the loader judges.
fn least_length(file: &File) -> Option<u64> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).ok()?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let (segments, sections) = (number::<8>(&header, 32), number::<8>(&header, 40));
    let segment_count = number::<2>(&header, 56);
    let table = |start: u64, size: u64, count: u64| start.saturating_add(size * count);
    let mut least = table(segments, number::<2>(&header, 54), segment_count).max(table(
        sections,
        number::<2>(&header, 58),
        number::<2>(&header, 60),
    ));
    for i in 0..segment_count {
        let mut segment = [0; SEGMENT];
        let at = segments.saturating_add(i * SEGMENT as u64);
        if file.read_exact_at(&mut segment, at).is_err() {
            break; // The table itself lies beyond the end: `least` says so.
        }
        let (offset, size) = (number::<8>(&segment, 8), number::<8>(&segment, 32));
        least = least.max(offset.saturating_add(size));
    }
    Some(least)
}

/// Fails with the cause if the library at `path` was truncated. If there is no such file, `path` is
/// a name for the loader to search.
pub fn check_whole(path: &Path) -> Result<(), String> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let length = file.metadata().map_or(0, |m| m.len());
    match least_length(&file) {
        Some(least) if least > length => Err(format!(
            "{} is damaged: it has {length} bytes, but needs at least {least}",
            path.display()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_anywhere_is_noticed() {
        // Any whole ELF file will do, such as this program.
        let program = std::env::current_exe().expect("this test");
        assert_eq!(check_whole(&program), Ok(()));
        let whole = std::fs::read(&program).expect("readable");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("cut.so");
        for part in 1..8 {
            std::fs::write(&path, &whole[..whole.len() * part / 8]).expect("writable");
            assert!(check_whole(&path).is_err(), "{part} eighths");
        }
        for other in [&b""[..], b"text", &whole[..HEADER - 1]] {
            std::fs::write(&path, other).expect("writable");
            assert_eq!(
                check_whole(&path),
                Ok(()),
                "the loader refuses these itself"
            );
        }
        assert_eq!(check_whole(Path::new("libno-such.so")), Ok(()));
    }
}
