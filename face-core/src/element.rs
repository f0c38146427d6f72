//! What the elements of all stages do alike.

use glib::{ParamSpec, Value};
use gst::prelude::*;

use crate::error::Error;
use crate::session::{Options, PROVIDERS};

/// The properties that all inference stages have.
#[derive(Debug, Clone)]
pub struct Inference {
    /// Name or path.
    pub model: String,
    pub options: Options,
}

impl Inference {
    pub fn new(model: &str) -> Self {
        Self {
            model: model.into(),
            options: Options::default(),
        }
    }

    /// `model`, `execution-provider` and `threads`.
    pub fn properties(model: &str, blurb: &str) -> Vec<ParamSpec> {
        vec![
            glib::ParamSpecString::builder("model")
                .nick("Model")
                .blurb(blurb)
                .default_value(model)
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("execution-provider")
                .nick("Execution provider")
                .blurb(&format!(
                    "What runs the model: cpu, {}",
                    PROVIDERS.join(", ")
                ))
                .default_value("cpu")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb(
                    "Threads inside one inference; stages run in parallel through queue elements",
                )
                .minimum(1)
                .maximum(256)
                .default_value(1)
                .mutable_ready()
                .build(),
        ]
    }

    /// Takes one of [`properties`](Self::properties); `false` if it is another.
    pub fn set(&mut self, name: &str, value: &Value) -> bool {
        let text = || {
            value
                .get::<Option<String>>()
                .ok()
                .flatten()
                .unwrap_or_default()
        };
        match name {
            "model" => self.model = text(),
            "execution-provider" => {
                self.options.provider = Some(text())
                    .filter(|p| !p.is_empty())
                    .unwrap_or("cpu".into());
            }
            "threads" => self.options.threads = value.get().unwrap_or(1),
            _ => return false,
        }
        true
    }

    /// The value of one of [`properties`](Self::properties).
    pub fn get(&self, name: &str) -> Option<Value> {
        match name {
            "model" => Some(self.model.to_value()),
            "execution-provider" => Some(self.options.provider.to_value()),
            "threads" => Some(self.options.threads.to_value()),
            _ => None,
        }
    }
}

/// Raw video in system memory, in any format.
pub fn pixel_caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new().build()
}

/// Raw video in any format and any memory.
pub fn any_video_caps() -> gst::Caps {
    gst::Caps::builder_full_with_any_features()
        .structure(gst::Structure::new_empty("video/x-raw"))
        .build()
}

/// Pad templates of an element that passes `caps` through.
pub fn pad_templates(caps: &gst::Caps) -> Vec<gst::PadTemplate> {
    [
        ("sink", gst::PadDirection::Sink),
        ("src", gst::PadDirection::Src),
    ]
    .into_iter()
    .filter_map(|(name, direction)| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).ok()
    })
    .collect()
}

/// Posts `error` as an element error.
pub fn post(element: &impl IsA<gst::Element>, error: &Error) {
    element.post_error_message(error.to_message());
}
