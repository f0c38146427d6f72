//! Where models and ONNX Runtime are looked up. No path of the build machine is among the places: a
//! checkout is found only by a plugin or program that still lies in its `target` folder.

use std::ffi::{CStr, OsStr, OsString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names the checkout for programs whose `target` folder lies outside it. The Makefile sets it.
const CHECKOUT: &str = "GST_FACE_CHECKOUT";

/// The library's file name, without its version.
pub(crate) const LIBRARY: &str = "libonnxruntime.so";

/// The folders in which models are looked up by name, in order.
pub(crate) fn model_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(path) = std::env::var_os("GST_FACE_MODEL_PATH") {
        folders.extend(std::env::split_paths(&path).filter(|p| !p.as_os_str().is_empty()));
    }
    folders.push(data_home().join("models"));
    folders.extend(prefixes().map(|prefix| prefix.join("share/gst-face/models")));
    let checkout = checkout().map(|checkout| checkout.join("models"));
    // `make models` fetches weights into the second.
    folders.extend(
        checkout
            .into_iter()
            .flat_map(|models| [models.clone(), models.join("optional")]),
    );
    folders
}

/// The folders in which ONNX Runtime is looked up, in order. The system's own comes after them.
pub(crate) fn library_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = module_folder().into_iter().collect();
    folders.push(data_home().join("lib"));
    folders.extend(prefixes().map(|prefix| prefix.join("lib/gst-face")));
    folders.extend(checkout().map(|checkout| checkout.join("runtime")));
    folders
}

/// The newest version of ONNX Runtime's library in `folder`.
pub(crate) fn library_in(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((version_of(path.file_name()?.to_str()?)?, path)))
        .max()
        .map(|(_, path)| path)
}

/// The version numbers in the library's file name; none for the bare name, `None` for other files.
fn version_of(file: &str) -> Option<Vec<u32>> {
    match file.strip_prefix(LIBRARY)? {
        "" => Some(Vec::new()),
        version => version
            .strip_prefix('.')?
            .split('.')
            .map(|number| number.parse().ok())
            .collect(),
    }
}

/// `$XDG_DATA_HOME/gst-face`, where `make install` puts a single user's models and runtime.
fn data_home() -> PathBuf {
    glib::user_data_dir().join("gst-face")
}

/// The installation that contains this code, if any, then the system's two.
fn prefixes() -> impl Iterator<Item = PathBuf> {
    let own = module_folder().and_then(|folder| prefix_of(&folder).map(Path::to_owned));
    let system = ["/usr/local", "/usr"].map(PathBuf::from);
    let own = own.filter(|own| !system.contains(own));
    own.into_iter().chain(system)
}

/// The prefix under which `folder` holds installed programs or GStreamer plugins.
fn prefix_of(folder: &Path) -> Option<&Path> {
    let is = |folder: &Path, name: &str| folder.file_name().is_some_and(|found| found == name);
    let parent = folder.parent()?;
    if is(folder, "bin") {
        return Some(parent);
    }
    if !is(folder, "gstreamer-1.0") {
        return None;
    }
    // PREFIX/lib, or PREFIX/lib/x86_64-linux-gnu.
    let libraries = |folder: &Path| is(folder, "lib") || is(folder, "lib64");
    parent.ancestors().take(2).find(|f| libraries(f))?.parent()
}

fn checkout() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(CHECKOUT).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    checkout_of(&module_folder()?).map(Path::to_owned)
}

/// The checkout that contains `folder` in its `target` folder, or in the `target` folder of a
/// subfolder.
fn checkout_of(folder: &Path) -> Option<&Path> {
    folder
        .ancestors()
        .filter(|folder| folder.file_name().is_some_and(|name| name == "target"))
        .flat_map(|target| target.ancestors().skip(1).take(2))
        .find(|folder| folder.join("face-core/Cargo.toml").is_file())
}

/// The folder of the plugin or program that contains this code.
fn module_folder() -> Option<PathBuf> {
    let (base, name) = object_at(module_folder as fn() -> Option<PathBuf> as *const c_void)?;
    // SAFETY: it looks up a number in what the kernel gave to the process.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) };
    let program = object_at(std::ptr::with_exposed_provenance(entry as usize));
    // The loader knows the program itself only by the name under which it was called.
    let path = match program.is_some_and(|(program, _)| program == base) {
        true => std::env::current_exe().ok()?,
        false => Path::new(&name).canonicalize().ok()?,
    };
    Some(path.parent()?.to_owned())
}

/// The base address and the file of the loaded object that contains `address`.
fn object_at(address: *const c_void) -> Option<(usize, OsString)> {
    // SAFETY: an all-zero Dl_info is valid, and dladdr, which takes any address, fills it in or
    // returns 0.
    let info = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        info
    };
    // SAFETY: the string is the loader's. Nobody unloads the object that holds this code, or the
    // program.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let name = OsStr::from_bytes(name.to_bytes()).to_owned();
    Some((info.dli_fbase.addr(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_a_number_and_not_a_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str| std::fs::write(folder.path().join(name), "").expect("writable");
        let found = || {
            let path = library_in(folder.path())?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(found(), None);
        for (name, highest) in [
            ("libonnxruntime_providers_shared.so", None),
            ("libonnxruntime.so.1.27.0.part", None),
            ("libonnxruntime.so", Some("libonnxruntime.so")),
            ("libonnxruntime.so.1.9.1", Some("libonnxruntime.so.1.9.1")),
            ("libonnxruntime.so.1.26.0", Some("libonnxruntime.so.1.26.0")),
            ("libonnxruntime.so.1", Some("libonnxruntime.so.1.26.0")),
            (
                "libonnxruntime.so.1.26.10",
                Some("libonnxruntime.so.1.26.10"),
            ),
            (
                "libonnxruntime.so.1.26.9",
                Some("libonnxruntime.so.1.26.10"),
            ),
        ] {
            put(name);
            assert_eq!(found().as_deref(), highest, "{name}");
        }
    }

    #[test]
    fn a_checkout_is_found_from_its_target_folder_only() {
        let root = tempfile::tempdir().expect("a folder");
        let checkout = root.path().join("target/checkout");
        std::fs::create_dir_all(checkout.join("face-core")).expect("writable");
        std::fs::write(checkout.join("face-core/Cargo.toml"), "").expect("writable");
        for (folder, found) in [
            ("target/release", true),
            ("target/release/deps", true),
            ("fuzz/target/x86_64-unknown-linux-gnu/release", true),
            ("", false),
            ("bin", false),
            ("a/b/target/release", false),
            ("../elsewhere/target/release", false),
        ] {
            let expected = found.then_some(checkout.as_path());
            assert_eq!(checkout_of(&checkout.join(folder)), expected, "{folder}");
        }
    }

    #[test]
    fn an_installation_is_known_by_its_folders() {
        for (folder, prefix) in [
            ("/usr/bin", Some("/usr")),
            ("/opt/face/bin", Some("/opt/face")),
            ("/usr/lib/x86_64-linux-gnu/gstreamer-1.0", Some("/usr")),
            ("/usr/lib64/gstreamer-1.0", Some("/usr")),
            ("/opt/face/lib/gstreamer-1.0", Some("/opt/face")),
            ("/home/me/.local/share/gstreamer-1.0/plugins", None),
            ("/home/me/gstreamer-1.0", None),
            ("/checkout/target/release", None),
            ("/", None),
        ] {
            assert_eq!(
                prefix_of(Path::new(folder)),
                prefix.map(Path::new),
                "{folder}"
            );
        }
    }
}
