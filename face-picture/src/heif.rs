//! HEIC and AVIF, by the system's libheif. It is loaded when the first such picture comes, so that programs
//! also run where it is missing.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use image::{DynamicImage, RgbImage};
use libloading::Library;

use crate::limits::{self, MOST_PIXELS_A_SIDE};
use crate::{Error, Kind};

/// Its name since version 1.0, which promises that names and types stay.
const LIBRARY: &str = "libheif.so.1";

/// Whether the system has libheif.
pub fn is_available() -> bool {
    library().is_some()
}

fn library() -> Option<&'static Libheif> {
    static LOADED: OnceLock<Option<Libheif>> = OnceLock::new();
    LOADED.get_or_init(|| Libheif::load(LIBRARY)).as_ref()
}

/// Reads the main picture of a file, upright.
pub fn decode(bytes: &[u8], kind: Kind) -> Result<DynamicImage, Error> {
    let library = library().ok_or(Error::NoLibheif(kind))?;
    library.decode(bytes, kind)
}

// What libheif/heif.h declares.

#[repr(C)]
struct HeifError {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

const COLORSPACE_RGB: c_int = 1;
const CHROMA_INTERLEAVED_RGB: c_int = 10;
const CHANNEL_INTERLEAVED: c_int = 10;
const UNSUPPORTED_FILETYPE: c_int = 3;
const UNSUPPORTED_FEATURE: c_int = 4;
const DECODER_PLUGIN: c_int = 7;
const PLUGIN_LOADING: c_int = 11;

type Pointer = *mut c_void;

/// The functions that are used here. They stay loaded for ever.
struct Libheif {
    context_alloc: unsafe extern "C" fn() -> Pointer,
    context_free: unsafe extern "C" fn(Pointer),
    set_limit: unsafe extern "C" fn(Pointer, c_int),
    read: unsafe extern "C" fn(Pointer, *const c_void, usize, *const c_void) -> HeifError,
    primary: unsafe extern "C" fn(Pointer, *mut Pointer) -> HeifError,
    handle_width: unsafe extern "C" fn(Pointer) -> c_int,
    handle_height: unsafe extern "C" fn(Pointer) -> c_int,
    handle_release: unsafe extern "C" fn(Pointer),
    decode: unsafe extern "C" fn(Pointer, *mut Pointer, c_int, c_int, *const c_void) -> HeifError,
    width: unsafe extern "C" fn(Pointer, c_int) -> c_int,
    height: unsafe extern "C" fn(Pointer, c_int) -> c_int,
    plane: unsafe extern "C" fn(Pointer, c_int, *mut c_int) -> *const u8,
    image_release: unsafe extern "C" fn(Pointer),
}

/// Calls a function of libheif when it goes out of scope.
struct Owned(Pointer, unsafe extern "C" fn(Pointer));

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `self.0` comes from libheif, which names `self.1` as what frees it, and is freed only
        // here.
        unsafe { (self.1)(self.0) }
    }
}

impl Libheif {
    fn load(name: &str) -> Option<Self> {
        // SAFETY: libheif's initialisers have no preconditions.
        let library = unsafe { Library::new(name) }.ok()?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: heif.h declares the function with the type of the field, and the library is never
                // unloaded.
                *unsafe { library.get($name) }.ok()?
            };
        }
        // SAFETY: heif.h declares the function with this type.
        let init =
            unsafe { library.get::<unsafe extern "C" fn(Pointer) -> HeifError>(b"heif_init\0") };
        // Loads the plugins that decode, in versions that have some.
        if let Ok(init) = init {
            // SAFETY: it takes NULL for its defaults.
            unsafe { init(null_mut()) };
        }
        let functions = Self {
            context_alloc: function!(b"heif_context_alloc\0"),
            context_free: function!(b"heif_context_free\0"),
            set_limit: function!(b"heif_context_set_maximum_image_size_limit\0"),
            read: function!(b"heif_context_read_from_memory_without_copy\0"),
            primary: function!(b"heif_context_get_primary_image_handle\0"),
            handle_width: function!(b"heif_image_handle_get_width\0"),
            handle_height: function!(b"heif_image_handle_get_height\0"),
            handle_release: function!(b"heif_image_handle_release\0"),
            decode: function!(b"heif_decode_image\0"),
            width: function!(b"heif_image_get_width\0"),
            height: function!(b"heif_image_get_height\0"),
            plane: function!(b"heif_image_get_plane_readonly\0"),
            image_release: function!(b"heif_image_release\0"),
        };
        std::mem::forget(library);
        Some(functions)
    }

    fn decode(&self, bytes: &[u8], kind: Kind) -> Result<DynamicImage, Error> {
        // SAFETY: it has no preconditions.
        let context = Owned(unsafe { (self.context_alloc)() }, self.context_free);
        if context.0.is_null() {
            return Err(Error::Memory(0, 0));
        }
        // SAFETY: the context is valid.
        unsafe { (self.set_limit)(context.0, MOST_PIXELS_A_SIDE as c_int) };
        // SAFETY: `bytes` outlives the context, which only reads it.
        let read = unsafe { (self.read)(context.0, bytes.as_ptr().cast(), bytes.len(), null()) };
        check(read, kind)?;
        let mut handle = null_mut();
        // SAFETY: the context is valid, and `handle` is a place for a pointer.
        check(unsafe { (self.primary)(context.0, &mut handle) }, kind)?;
        let handle = Owned(handle, self.handle_release);
        // SAFETY: without an error the handle is valid.
        let size = unsafe {
            (
                (self.handle_width)(handle.0),
                (self.handle_height)(handle.0),
            )
        };
        let (width, height) = positive(size).ok_or_else(|| nothing(kind))?;
        limits::check(width, height, 3 * u64::from(width) * u64::from(height))?;

        let mut image = null_mut();
        // SAFETY: the handle is valid, `image` is a place for a pointer, and NULL stands for the default
        // options, which turn the picture upright.
        let decoded = unsafe {
            (self.decode)(
                handle.0,
                &mut image,
                COLORSPACE_RGB,
                CHROMA_INTERLEAVED_RGB,
                null(),
            )
        };
        check(decoded, kind)?;
        let image = Owned(image, self.image_release);
        let mut stride: c_int = 0;
        // SAFETY: without an error the image is valid, and has this one channel.
        let (size, plane) = unsafe {
            (
                (
                    (self.width)(image.0, CHANNEL_INTERLEAVED),
                    (self.height)(image.0, CHANNEL_INTERLEAVED),
                ),
                (self.plane)(image.0, CHANNEL_INTERLEAVED, &mut stride),
            )
        };
        let (width, height) = positive(size).ok_or_else(|| nothing(kind))?;
        let row = 3 * width as usize;
        let stride = usize::try_from(stride).unwrap_or(0);
        if plane.is_null() || stride < row {
            return Err(nothing(kind));
        }
        limits::check(width, height, row as u64 * u64::from(height))?;
        let mut pixels = Vec::with_capacity(row * height as usize);
        for y in 0..height as usize {
            // SAFETY: the plane has `height` rows, `stride` bytes apart, each of at least `row` bytes; it
            // lives as long as the image.
            pixels.extend_from_slice(unsafe {
                std::slice::from_raw_parts(plane.add(y * stride), row)
            });
        }
        let image = RgbImage::from_raw(width, height, pixels).ok_or_else(|| nothing(kind))?;
        Ok(image.into())
    }
}

fn positive((width, height): (c_int, c_int)) -> Option<(u32, u32)> {
    let side = |side: c_int| u32::try_from(side).ok().filter(|side| *side > 0);
    Some((side(width)?, side(height)?))
}

fn nothing(kind: Kind) -> Error {
    Error::Damaged(kind, "it has no picture".into())
}

fn check(error: HeifError, kind: Kind) -> Result<(), Error> {
    if error.code == 0 {
        return Ok(());
    }
    let message = match error.message.is_null() {
        true => format!("error {}.{}", error.code, error.subcode),
        // SAFETY: libheif's messages are constant texts, or live as long as the context, which the caller
        // still has.
        false => unsafe { CStr::from_ptr(error.message) }
            .to_string_lossy()
            .into_owned(),
    };
    Err(match error.code {
        UNSUPPORTED_FILETYPE | UNSUPPORTED_FEATURE | PLUGIN_LOADING | DECODER_PLUGIN => {
            Error::Unsupported(kind, format!("libheif: {message}"))
        }
        _ => Error::Damaged(kind, message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_libheif_the_error_says_what_to_install() {
        assert!(Libheif::load("libheif-of-no-system.so.1").is_none());
        let said = Error::NoLibheif(Kind::Heic).to_string();
        assert!(
            said.contains("libheif1") && said.contains("heif-convert IN.heic"),
            "{said}"
        );
    }
}
