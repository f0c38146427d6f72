//! Errors. Each says what was tried, why it failed and what to do about it.

use std::path::PathBuf;

/// What can go wrong between a property and a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was not found.
    #[error("{0}")]
    NotFound(String),
    /// A file that exists but cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        path: PathBuf,
        cause: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Unwritable {
        path: PathBuf,
        cause: std::io::Error,
    },
    /// A file with invalid content.
    #[error("{}: {cause}", path.display())]
    Invalid { path: PathBuf, cause: String },
    /// ONNX Runtime, or one of its execution providers, cannot be loaded.
    #[error("{0}")]
    Runtime(String),
    /// A model that loads but does not do what its descriptor says.
    #[error("model {model}: {cause}")]
    Model { model: String, cause: String },
    /// A frame whose pixels cannot be read.
    #[error("{0}")]
    Frame(String),
    /// Property values that contradict each other.
    #[error("{0}")]
    Settings(String),
}

impl From<crate::image::UnreadableFrame> for Error {
    fn from(error: crate::image::UnreadableFrame) -> Self {
        Self::Frame(error.to_string())
    }
}

impl Error {
    pub fn invalid(path: impl Into<PathBuf>, cause: impl ToString) -> Self {
        Self::Invalid {
            path: path.into(),
            cause: cause.to_string(),
        }
    }

    pub fn model(model: impl Into<String>, cause: impl ToString) -> Self {
        Self::Model {
            model: model.into(),
            cause: cause.to_string(),
        }
    }

    /// A read error, or [`Error::NotFound`] if the file does not exist.
    pub fn reading(path: impl Into<PathBuf>, cause: std::io::Error) -> Self {
        let path = path.into();
        if cause.kind() == std::io::ErrorKind::NotFound {
            Self::NotFound(format!("{} does not exist", path.display()))
        } else {
            Self::Unreadable { path, cause }
        }
    }

    /// The error as an element error, in the domain that tells users what they can do.
    pub fn to_message(&self) -> gst::ErrorMessage {
        match self {
            Self::NotFound(_) => gst::error_msg!(gst::ResourceError::NotFound, ("{}", self)),
            Self::Unreadable { .. } => gst::error_msg!(gst::ResourceError::OpenRead, ("{}", self)),
            Self::Unwritable { .. } => gst::error_msg!(gst::ResourceError::OpenWrite, ("{}", self)),
            Self::Invalid { .. } => gst::error_msg!(gst::StreamError::WrongType, ("{}", self)),
            Self::Runtime(_) => gst::error_msg!(gst::LibraryError::Init, ("{}", self)),
            Self::Model { .. } => gst::error_msg!(gst::StreamError::Format, ("{}", self)),
            Self::Frame(_) => gst::error_msg!(gst::StreamError::Failed, ("{}", self)),
            Self::Settings(_) => gst::error_msg!(gst::LibraryError::Settings, ("{}", self)),
        }
    }
}
