//! Which detector looks at which size: a model by name, or a preset.

/// A preset of `--detector`.
struct Preset {
    name: &'static str,
    model: &'static str,
    /// The longest side of the model's input, in pixels.
    inference_size: u32,
}

/// docs/models.md has the measurements.
const PRESETS: [Preset; 2] = [
    // For cameras.
    Preset {
        name: "fast",
        model: "yunet",
        inference_size: INFERENCE_SIZE,
    },
    // For photographs and archives.
    Preset {
        name: "accurate",
        model: "centerface",
        inference_size: 1600,
    },
];

/// The longest side of the model's input if nobody chooses one, in pixels.
pub const INFERENCE_SIZE: u32 = 640;

/// A detector's model and the longest side of its input, in pixels; 0 = the picture's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection<'a> {
    pub model: &'a str,
    pub inference_size: u32,
}

impl<'a> Detection<'a> {
    /// What `--detector` and `--inference-size` ask for. `detector` is a preset or a model; a size takes
    /// precedence over the preset's.
    pub fn of(detector: &'a str, inference_size: Option<u32>) -> Self {
        let preset = PRESETS.iter().find(|preset| preset.name == detector);
        let (model, size) = preset.map_or((detector, INFERENCE_SIZE), |preset| {
            (preset.model, preset.inference_size)
        });
        Self {
            model,
            inference_size: inference_size.unwrap_or(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_a_model_and_a_size_and_a_size_takes_precedence() {
        let of = |detector, size| {
            let found = Detection::of(detector, size);
            (found.model, found.inference_size)
        };
        assert_eq!(of("fast", None), of("yunet", None));
        assert_eq!(of("yunet", None), ("yunet", 640));
        assert_eq!(of("accurate", None), ("centerface", 1600));
        assert_eq!(of("accurate", Some(0)), ("centerface", 0));
        assert_eq!(of("a/b.onnx", Some(320)), ("a/b.onnx", 320));
    }

    #[test]
    fn the_models_of_presets_exist() {
        for preset in PRESETS {
            let model = face_core::model::Model::find(preset.model);
            assert!(model.is_ok(), "{}", preset.name);
        }
    }
}
