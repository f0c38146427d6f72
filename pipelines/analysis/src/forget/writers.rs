//! Finds the processes that have a file open for writing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The id of such a process other than this one and those in `known`. The system shows other users'
/// processes only to root.
pub fn stranger(file: &File, known: &BTreeSet<u32>) -> Option<u32> {
    let own = file.metadata().ok()?;
    let key = (own.dev(), own.ino());
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| *id != std::process::id() && !known.contains(id) && writes(*id, key))
}

fn writes(process: u32, key: (u64, u64)) -> bool {
    let folder = Path::new("/proc").join(process.to_string());
    let Ok(files) = fs::read_dir(folder.join("fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        let there = fs::metadata(file.path());
        let flags = || {
            let info = fs::read_to_string(folder.join("fdinfo").join(file.file_name())).ok()?;
            let octal = info.lines().find_map(|l| l.strip_prefix("flags:"))?;
            i32::from_str_radix(octal.trim(), 8).ok()
        };
        there.is_ok_and(|m| (m.dev(), m.ino()) == key)
            && flags().is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_writes_is_found_and_who_reads_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lines");
        let file = File::create(&path).expect("writable");
        let nobody = BTreeSet::new();
        assert_eq!(stranger(&file, &nobody), None);
        let start = |to: Stdio, from: Stdio| {
            let mut command = Command::new("sleep");
            command.arg("60").stdin(from).stdout(to);
            command.spawn().expect("sleep is installed")
        };
        let mut reader = start(Stdio::null(), File::open(&path).expect("readable").into());
        assert_eq!(stranger(&file, &nobody), None);
        let again = file.try_clone().expect("a descriptor");
        let mut writer = start(again.into(), Stdio::null());
        assert_eq!(stranger(&file, &nobody), Some(writer.id()));
        assert_eq!(stranger(&file, &[writer.id()].into()), None);
        for child in [&mut reader, &mut writer] {
            child.kill().expect("a child");
            child.wait().expect("a child");
        }
    }
}
