//! The HLS playlist of a live stream.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use face_core::Error;
use face_core::file::read_text_at_most;
use jiff::Timestamp;

use crate::outputs::dated::replace_private;

/// The limit of entries in a playlist that keeps all pieces: each new piece rewrites it.
const MOST: usize = 10_000;

/// Our playlists are smaller, in bytes.
const LARGEST: u64 = 16 << 20;

/// One piece.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    pub duration: Duration,
    pub time: Option<Timestamp>,
    /// Times or pictures are discontinuous with the previous piece.
    pub begins_anew: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Playlist {
    path: PathBuf,
    keep: usize,
    /// The number of the first entry.
    sequence: u64,
    /// The number of discontinuities before the first entry.
    discontinuities: u64,
    entries: VecDeque<Entry>,
}

impl Playlist {
    /// The playlist at `path` with the newest `keep` pieces (0: as many as allowed). It continues
    /// an existing file.
    pub fn read(path: PathBuf, keep: usize) -> Self {
        let mut playlist = Self {
            path,
            keep: if keep == 0 { MOST } else { keep.min(MOST) },
            sequence: 0,
            discontinuities: 0,
            entries: VecDeque::new(),
        };
        match read_text_at_most(&playlist.path, LARGEST) {
            Ok(text) => playlist.parse(&text),
            Err(Error::NotFound(_)) => {}
            Err(error) => tracing::warn!("{error}; starting a new one"),
        }
        playlist
    }

    /// Reads what [`render`](Self::render) wrote, and skips everything else.
    fn parse(&mut self, text: &str) {
        let (mut duration, mut time, mut begins_anew) = (None, None, false);
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                self.sequence = number.parse().unwrap_or(0);
            } else if let Some(number) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
                self.discontinuities = number.parse().unwrap_or(0);
            } else if let Some(text) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
                time = text.parse().ok();
            } else if let Some(text) = line.strip_prefix("#EXTINF:") {
                let seconds = text.trim_end_matches(',').parse().ok();
                duration = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
            } else if line == "#EXT-X-DISCONTINUITY" {
                begins_anew = true;
            } else if !line.starts_with('#')
                && !line.is_empty()
                && let Some(duration) = duration.take()
            {
                self.entries.push_back(Entry {
                    name: line.to_owned(),
                    duration,
                    time: time.take(),
                    begins_anew: std::mem::take(&mut begins_anew),
                });
            }
        }
    }

    /// Whether a piece is newer than all entries. The names contain the time.
    pub fn lacks(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| self.entries.iter().all(|entry| entry.name.as_str() < name))
    }

    /// Adds a piece and writes the playlist.
    pub fn add(&mut self, entry: Entry) -> io::Result<()> {
        self.entries.push_back(entry);
        while self.entries.len() > self.keep
            && let Some(oldest) = self.entries.pop_front()
        {
            self.sequence += 1;
            self.discontinuities += u64::from(oldest.begins_anew);
        }
        self.write(false)
    }

    /// Marks the playlist as ended.
    pub fn end(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        self.write(true)
    }

    /// Writes the file, then renames it into place.
    fn write(&self, ended: bool) -> io::Result<()> {
        replace_private(&self.path, self.render(ended).as_bytes()).map(drop)
    }

    fn render(&self, ended: bool) -> String {
        let longest = self.entries.iter().map(|e| e.duration.as_secs_f64());
        let target = longest.fold(1.0, f64::max).round();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{target}\n\
             #EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
            self.sequence, self.discontinuities
        );
        for entry in &self.entries {
            if entry.begins_anew {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if let Some(time) = entry.time {
                // Writing to a string does not fail.
                let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{time:.3}");
            }
            let _ = writeln!(
                text,
                "#EXTINF:{:.3},\n{}",
                entry.duration.as_secs_f64(),
                entry.name
            );
        }
        if ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            name: format!("door-{number}.ts"),
            duration: Duration::from_millis(6000 + number),
            time: "2026-01-31T23:59:59.123Z".parse().ok(),
            begins_anew: number == 2,
        }
    }

    #[test]
    fn the_oldest_pieces_go_and_a_restart_goes_on() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("door.m3u8");
        let mut playlist = Playlist::read(path.clone(), 3);
        for number in 0..5 {
            playlist.add(entry(number)).expect("written");
        }
        playlist.end().expect("written");
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:2\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-DISCONTINUITY\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-01-31T23:59:59.123Z\n#EXTINF:6.002,\ndoor-2.ts\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-01-31T23:59:59.123Z\n#EXTINF:6.003,\ndoor-3.ts\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-01-31T23:59:59.123Z\n#EXTINF:6.004,\ndoor-4.ts\n\
             #EXT-X-ENDLIST\n"
        );
        let mut again = Playlist::read(path, 3);
        assert_eq!(again.entries, playlist.entries);
        again.add(entry(5)).expect("written");
        assert_eq!((again.sequence, again.discontinuities), (3, 1));
        assert!(again.lacks(Path::new("x/door-6.ts")) && !again.lacks(Path::new("x/door-4.ts")));
        assert!(!again.render(false).contains("ENDLIST"));
    }
}
