//! Tells the page where to find its inputs.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use face_parts::address;

/// Characters of a path that must be escaped in a reference.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// How the page refers to an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Its file name, or the last part of its URI.
    pub title: String,
    /// Its location for people to read, without the password of a URI.
    pub place: String,
    /// References in the order to try. Empty if it is only on the network.
    pub sources: Vec<String>,
}

/// `input` is an absolute path or a URI, `page` the absolute folder of the page.
pub fn media(input: &str, page: &Path) -> Media {
    let local = match input.contains("://") {
        true => glib::filename_from_uri(input).ok().map(|(path, _)| path),
        false => Some(PathBuf::from(input)),
    };
    let Some(path) = local else {
        let place = without_secrets(input);
        let last = place.trim_end_matches('/').rsplit('/').next();
        return Media {
            title: last.filter(|t| !t.is_empty()).unwrap_or(&place).to_owned(),
            place,
            sources: Vec::new(),
        };
    };
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let mut sources: Vec<String> = vec![escape(&relative(&path, page))];
    sources.extend(glib::filename_to_uri(&path, None).map(String::from));
    sources.extend(name.as_deref().map(|name| escape(Path::new(name))));
    sources.dedup();
    Media {
        title: name.unwrap_or_else(|| input.to_owned()),
        place: path.display().to_string(),
        sources,
    }
}

/// A URI without user, password, query and fragment.
fn without_secrets(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    address::whole(&format!("{scheme}://{host}{path}"))
}

/// The path from the folder `from` to `path`, both absolute.
pub fn relative(path: &Path, from: &Path) -> PathBuf {
    let (path, from) = (tidy(path), tidy(from));
    let common = path
        .components()
        .zip(from.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}

/// Without `.` and `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    tidy
}

/// Escapes a relative path for a reference in a page.
pub fn escape(path: &Path) -> String {
    percent_encode(path.as_os_str().as_encoded_bytes(), UNSAFE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_video_is_sought_relative_absolute_and_beside_the_page() {
        let found = media("/films/x & y/50%: a?.mp4", Path::new("/home/ann/../out"));
        assert_eq!(found.title, "50%: a?.mp4");
        assert_eq!(
            found.sources,
            [
                "../../films/x%20%26%20y/50%25%3A%20a%3F.mp4",
                "file:///films/x%20&%20y/50%25:%20a%3F.mp4",
                "50%25%3A%20a%3F.mp4"
            ]
        );
        let beside = media("/home/a.mp4", Path::new("/home"));
        assert_eq!(beside.sources[0], "a.mp4");
        let uri = media("file:///films/a%20b.mp4", Path::new("/films"));
        assert_eq!(
            (uri.title.as_str(), uri.sources[0].as_str()),
            ("a b.mp4", "a%20b.mp4")
        );
    }

    #[test]
    fn a_stream_is_named_without_its_password() {
        let found = media("rtsp://ann:p@ss@cam.local/live/1?token=x#y", Path::new("/"));
        assert_eq!(found.place, "rtsp://cam.local/live/1");
        assert_eq!(found.title, "1");
        assert!(found.sources.is_empty());
        assert_eq!(media("rtsp://cam", Path::new("/")).title, "cam");
    }
}
