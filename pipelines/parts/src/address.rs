//! Prepares addresses for display: removes passwords and tokens. Cameras accept these before the
//! host, in the query and in the path.

use std::borrow::Cow;
use std::path::Path;

use crate::secret::{self, Secret};

/// Replaces a secret.
const MASK: &str = "***";

/// Characters that end an address within a sentence, besides blanks.
const ENDS: &str = "\"'`<>";

/// Query keys whose values may be shown: they choose the stream and how it is sent.
const HARMLESS: [&str; 28] = [
    "audio",
    "audiocodec",
    "cam",
    "camera",
    "ch",
    "channel",
    "chn",
    "codec",
    "fps",
    "h",
    "height",
    "inst",
    "multicast",
    "profile",
    "proto",
    "quality",
    "res",
    "resolution",
    "stream",
    "streamtype",
    "subtype",
    "t",
    "transport",
    "transportmode",
    "unicast",
    "video",
    "videocodec",
    "width",
];

/// Parts of key names whose values are secret anywhere in an address.
const SECRET: [&str; 9] = [
    "pass", "pwd", "psw", "token", "secret", "key", "auth", "sig", "cred",
];

/// Replaces all secrets known to the program, and those in addresses, with `***`.
pub fn redact(text: &str) -> String {
    // Known secrets first: they may contain characters that end an address.
    masked(&secret::masked(text)).into_owned()
}

/// Removes the secrets from addresses in `text`, including addresses without scheme and host.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains("://") && !text.contains('=') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| c.is_whitespace() || ENDS.contains(c)) {
        // Punctuation after an address in a sentence.
        let end = word.trim_end_matches(|c: char| c.is_whitespace() || "\"'`<>,;:.)…".contains(c));
        out += &address(end, &mut |_| {});
        out += &word[end.len()..];
    }
    out.into()
}

/// The input of a command as it is printed and stored: a file's path, or an address without its
/// secrets. From then on, [`redact`] also finds these secrets where it could not tell where the
/// address ends.
pub fn shown(input: &Path) -> String {
    let text = input.display().to_string();
    match text.contains("://") && !input.exists() {
        true => whole(&text),
        false => text,
    }
}

/// Removes the secrets from `text`, which is one address (blanks and quotes included) or a path.
pub fn whole(text: &str) -> String {
    if !text.contains("://") {
        return masked(text).into_owned();
    }
    // The others are found anyway, and may be common words.
    let is_rare = |secret: &str| secret.contains(|c: char| c.is_whitespace() || ENDS.contains(c));
    address(text, &mut |secret| match secret {
        Found::Password(password) if !password.contains('\0') => {
            Secret::new(password);
            if let Some(decoded) = glib::uri_unescape_string(password, None::<&str>) {
                Secret::new(decoded);
            }
        }
        Found::Value(value) if is_rare(value) => drop(Secret::new(value)),
        _ => {}
    })
}

/// A secret found in an address.
enum Found<'a> {
    Password(&'a str),
    Value(&'a str),
}

fn address<'a>(word: &'a str, found: &mut impl FnMut(Found<'a>)) -> String {
    let mut value = |text| found(Found::Value(text));
    let Some((scheme, rest)) = word.split_once("://") else {
        return pieces(word, "?#&;", place, &mut value);
    };
    let (host, rest) = rest.split_at(host_end(rest));
    let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let path = pieces(path, "/&;", place, &mut value);
    let query = pieces(query, "?#&;", self::query, &mut value);
    let host = match host.rsplit_once('@') {
        Some((credentials, host)) => match credentials.split_once(':') {
            Some((user, password)) => {
                found(Found::Password(password));
                format!("{user}:{MASK}@{host}")
            }
            None => format!("{credentials}@{host}"),
        },
        None => host.to_owned(),
    };
    format!("{scheme}://{host}{path}{query}")
}

/// Where the host of an address ends, including the credentials before it. If the port is not a
/// number and an `@` follows, it is the beginning of a password that contains a slash, `?` or `#`.
fn host_end(rest: &str) -> usize {
    let ends = ['/', '?', '#'];
    let end = rest.find(ends).unwrap_or(rest.len());
    let port = rest[..end].rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) || port.ends_with(']');
    match rest.rfind('@') {
        Some(at) if !is_port && at > end && !rest[..end].contains('@') => {
            rest[at..].find(ends).map_or(rest.len(), |end| at + end)
        }
        _ => end,
    }
}

/// Cuts off each piece between separators where its secret begins.
fn pieces<'a>(
    text: &'a str,
    separators: &str,
    secret: impl Fn(&str) -> Option<usize>,
    found: &mut impl FnMut(&'a str),
) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| separators.contains(c)) {
        let body = piece.trim_end_matches(|c| separators.contains(c));
        match secret(body).filter(|at| *at < body.len()) {
            Some(at) => {
                found(&body[at..]);
                out += &body[..at];
                out += MASK;
            }
            None => out += body,
        }
        out += &piece[body.len()..];
    }
    out
}

/// Where the secret in a part of a path begins: after the `=` of a key that names a secret. Some
/// cameras put several keys into one part, as in `user=admin_password=x`.
fn place(part: &str) -> Option<usize> {
    let mut ends = part.match_indices('=').map(|(at, _)| at);
    let key = |end: usize| {
        let letters = |c: char| !c.is_ascii_alphanumeric();
        part[..end].rsplit(letters).next().unwrap_or_default()
    };
    ends.find(|end| is_secret(key(*end))).map(|end| end + 1)
}

/// The same for a part of a query. Everything not known to be harmless counts as secret.
fn query(part: &str) -> Option<usize> {
    let Some((key, _)) = part.split_once('=') else {
        return Some(0);
    };
    match HARMLESS.contains(&key.to_ascii_lowercase().as_str()) {
        true => place(part),
        false => Some(key.len() + 1),
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["p", "pw", "pin", "code", "sid", "session"].contains(&key.as_str())
        || SECRET.iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets() {
        for (text, expected) in [
            (
                "rtsp://cam/stream?user=a&password=b",
                "rtsp://cam/stream?user=***&password=***",
            ),
            (
                "'rtsp://cam/1?token=x&channel=2': no",
                "'rtsp://cam/1?token=***&channel=2': no",
            ),
            (
                "rtsp://cam/1?token=x: refused",
                "rtsp://cam/1?token=***: refused",
            ),
            ("rtsp://me:hunter2@cam:554/1", "rtsp://me:***@cam:554/1"),
            ("rtsp://me:a@b@cam/1", "rtsp://me:***@cam/1"),
            ("rtsp://cam/1?abc", "rtsp://cam/1?***"),
            ("rtsp://cam/1#k=v", "rtsp://cam/1#k=***"),
            (
                "rtsp://cam/user=admin&password=x&channel=1",
                "rtsp://cam/user=admin&password=***&channel=1",
            ),
            (
                "rtsp://cam/user=admin_password=tl_channel=1.sdp?",
                "rtsp://cam/user=admin_password=***?",
            ),
            (
                "PLAY /live?user=me&password=b RTSP/1.0",
                "PLAY /live?user=me&password=*** RTSP/1.0",
            ),
            (
                "cam/live?token=b does not exist",
                "cam/live?token=*** does not exist",
            ),
            // Nothing to hide.
            (
                "rtsp://cam/1?channel=1&subtype=0",
                "rtsp://cam/1?channel=1&subtype=0",
            ),
            ("frames=12 of film?x=y.mp4", "frames=12 of film?x=y.mp4"),
            ("no address, a = b", "no address, a = b"),
            ("", ""),
        ] {
            assert_eq!(masked(text), expected);
            assert_eq!(masked(expected), expected, "masked twice");
        }
    }

    #[test]
    fn only_addresses_are_shown_without_something() {
        assert_eq!(shown(Path::new("rtsp://c/1?pw=x")), "rtsp://c/1?pw=***");
        assert_eq!(shown(Path::new("/films/a?pw=x.mp4")), "/films/a?pw=x.mp4");
    }

    #[test]
    fn passwords_with_blanks_and_quotes_are_found_again() {
        for (address, expected) in [
            ("rtsp://me:see'saw \"1\"@cam/1", "rtsp://me:***@cam/1"),
            ("rtsp://me:tick`<tock>@cam/1", "rtsp://me:***@cam/1"),
            ("rtsp://me:sla/sh?ed@cam/1?a", "rtsp://me:***@cam/1?***"),
            ("rtsp://cam/1?token=ab'cd ef", "rtsp://cam/1?token=***"),
            ("rtsp://[::1]/@me/1", "rtsp://[::1]/@me/1"),
            ("rtsp://cam:554/@me/1", "rtsp://cam:554/@me/1"),
        ] {
            assert_eq!(shown(Path::new(address)), expected);
            let said = redact(&format!("no '{address}': refused"));
            assert_eq!(said, format!("no '{expected}': refused"));
        }
        assert_eq!(redact("the password see'saw \"1\""), "the password ***");
        shown(Path::new("rtsp://me:per%27cent@cam/1"));
        assert_eq!(redact("per'cent, per%27cent"), "***, ***");
    }
}
