//! Lets the same message pass a few times a minute, then reports how many more there were.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// How often per minute a message passes.
const OFTEN: u64 = 3;

const WINDOW: Duration = Duration::from_secs(60);

/// How many messages are distinguished; beyond that, all count as one.
const MOST: usize = 512;

/// The messages of the last minute. `T` contains what is needed to report repeats.
pub struct Limit<T>(HashMap<u64, Repeats<T>>);

struct Repeats<T> {
    since: Instant,
    count: u64,
    what: T,
}

impl<T> Default for Limit<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Limit<T> {
    /// Whether to print a message.
    pub fn admit(&mut self, key: u64, now: Instant, what: impl FnOnce() -> T) -> bool {
        let key = match self.0.len() < MOST || self.0.contains_key(&key) {
            true => key,
            false => 0,
        };
        match self.0.entry(key) {
            Entry::Occupied(mut seen) => {
                let seen = seen.get_mut();
                seen.count += 1;
                seen.count <= OFTEN
            }
            Entry::Vacant(place) => {
                place.insert(Repeats {
                    since: now,
                    count: 1,
                    what: what(),
                });
                true
            }
        }
    }

    /// Forgets the messages whose minute is over. Returns the suppressed ones with their number.
    pub fn expire(&mut self, now: Instant) -> Vec<(T, u64)> {
        self.0
            .extract_if(|_, seen| now.saturating_duration_since(seen.since) >= WINDOW)
            .filter(|(_, seen)| seen.count > OFTEN)
            .map(|(_, seen)| (seen.what, seen.count - OFTEN))
            .collect()
    }
}

/// A key for messages that differ only in numbers, decimal or hexadecimal.
pub fn key(parts: &[&str], message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for text in parts.iter().copied().chain([message]) {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            if is_hexadecimal(word) {
                continue;
            }
            for piece in word.split(|c: char| c.is_ascii_digit()) {
                if !piece.is_empty() {
                    piece.hash(&mut hasher);
                }
            }
        }
    }
    hasher.finish()
}

/// Whether a word is a pointer, or part of an id.
fn is_hexadecimal(word: &str) -> bool {
    let all = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    match word.strip_prefix("0x") {
        Some(digits) => all(digits),
        None => word.len() >= 4 && all(word) && word.bytes().any(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_count() {
        let mut limit = Limit::default();
        let start = Instant::now();
        let flood = (0..1000).map(|i| key(&["rtpjitterbuffer"], &format!("lost packet #{i}")));
        let printed = flood
            .filter(|key| limit.admit(*key, start, || "lost"))
            .count();
        assert_eq!(printed, 3);
        assert!(limit.admit(key(&["rtspsrc"], "lost packet"), start, || "other"));
        assert!(limit.expire(start + WINDOW / 2).is_empty());
        assert_eq!(limit.expire(start + WINDOW), [("lost", 997)]);
        assert!(limit.admit(
            key(&["rtpjitterbuffer"], "lost packet #7"),
            start,
            || "lost"
        ));
    }

    #[test]
    fn pointers_and_ids_are_numbers() {
        let key = |message: &str| key(&["rtspclient"], message);
        for (one, other) in [
            ("client 0x7f77c4008c10: no", "client 0x562adf157900: no"),
            ("client 0xdeadbeef: no", "client 0xfacade: no"),
            ("session 3f2a-41bc0de5 ended", "session 91d0-77aa1c02 ended"),
            ("lost packet #7", "lost packet #1234"),
            ("queue3 is full", "queue12 is full"),
        ] {
            assert_eq!(key(one), key(other), "{one}");
        }
        for (one, other) in [
            ("a face is lost", "a bead is lost"),
            ("client 0x1: no", "client 0x1: yes"),
        ] {
            assert_ne!(key(one), key(other), "{one}");
        }
    }

    #[test]
    fn messages_that_are_all_different_take_no_memory() {
        let mut limit = Limit::default();
        let now = Instant::now();
        let printed = (1..100_000)
            .filter(|key| limit.admit(*key, now, || ()))
            .count();
        assert!(printed <= MOST + OFTEN as usize);
        assert!(limit.0.len() <= MOST + 1);
    }
}
