//! ONNX Runtime: one environment per process, one session for all element instances that want the
//! same model and options, and one [`Runner`] per instance that keeps its tensors bound.

mod place;
mod providers;

use std::error::Error as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use ndarray::ArrayViewD;
use ort::AsPointer;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, builder::GraphOptimizationLevel};
use ort::value::{Tensor, TensorElementType, ValueType};
use parking_lot::Mutex;

use crate::elf;
use crate::error::Error;
use crate::model::{self, Descriptor, MOST_INPUT_PIXELS, Model, Normalization};
use crate::onnx::{self, OnnxError};
use crate::places::{self, LIBRARY};
use crate::turns::Asker;
pub use place::{Place, leave_work_out};
use providers::with_provider;
pub use providers::{PROVIDERS, built_in};

/// For ONNX Runtime's own messages.
static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "onnxruntime",
        gst::DebugColorFlags::empty(),
        Some("ONNX Runtime"),
    )
});

fn create_environment() -> Result<Environment, Error> {
    let load = |path: &Path| {
        elf::check_whole(path)?;
        ort::init_from(path).map_err(|error| match &error {
            // Only the source has the loader's message.
            ort::LoadDynamicError::Dlopen { error: cause, .. } => match cause.source() {
                Some(source) => source.to_string(),
                None => error.to_string(),
            },
            _ => error.to_string(),
        })
    };
    let builder = if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        load(Path::new(&path)).map_err(|cause| {
            Error::Runtime(format!(
                "ONNX Runtime from ORT_DYLIB_PATH={}: {cause}; correct the variable, or unset it \
                 and {}",
                Path::new(&path).display(),
                model::REMEDY
            ))
        })?
    } else {
        let folders = places::library_folders();
        match folders.iter().find_map(|folder| places::library_in(folder)) {
            Some(path) => load(&path).map_err(|cause| {
                Error::Runtime(format!(
                    "ONNX Runtime from {}: {cause}; delete that file, then {}",
                    path.display(),
                    model::REMEDY
                ))
            })?,
            None => load(Path::new(LIBRARY)).map_err(|cause| {
                let places: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
                Error::Runtime(format!(
                    "no usable ONNX Runtime: found no {LIBRARY}* in {}, and the system's does not \
                     load: {cause}; set ORT_DYLIB_PATH, or {}",
                    places.join(", "),
                    model::REMEDY
                ))
            })?,
        }
    };
    let environment = builder
        .with_name("gst-face")
        .with_telemetry(false)
        .with_logger(Arc::new(
            |level, category, _id, place, message| match level {
                LogLevel::Verbose | LogLevel::Info => {
                    gst::debug!(CAT, "{category} {place}: {message}")
                }
                LogLevel::Warning => gst::info!(CAT, "{category} {place}: {message}"),
                LogLevel::Error | LogLevel::Fatal => {
                    gst::warning!(CAT, "{category} {place}: {message}")
                }
            },
        ))
        .build()
        .map_err(|e| Error::Runtime(format!("ONNX Runtime does not start: {e}")))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// The process's environment. After a failure, the next call tries again.
fn environment() -> Result<&'static Environment, Error> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    static CREATING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CREATING.lock();
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    // `ort` asserts when a library looks like the runtime and is not. The panic must not escape.
    let created = std::panic::catch_unwind(create_environment).unwrap_or_else(|_| {
        Err(Error::Runtime(format!(
            "the library found is not ONNX Runtime, or is too old; unset ORT_DYLIB_PATH and {}",
            model::REMEDY
        )))
    })?;
    Ok(ENVIRONMENT.get_or_init(|| created))
}

/// The most numbers of an input or output. The largest input has this many.
const MOST_NUMBERS: usize = 3 * MOST_INPUT_PIXELS;

/// The options in which sessions can differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Options {
    /// `cpu`, or one of [`PROVIDERS`].
    pub provider: String,
    /// Threads inside one inference; 1 runs it on the calling thread.
    pub threads: u32,
    /// A change to the model's graph, for a decoder that needs it.
    pub edit: Option<Edit>,
}

/// A change to a model's graph, made in memory before the runtime loads it.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    /// Edits with the same name are equal: their sessions are shared.
    pub name: &'static str,
    /// Returns the new model, or `None` to keep a model that is not built as the edit expects.
    pub apply: Apply,
}

/// Takes the descriptor and the model's bytes.
pub type Apply = fn(&Descriptor, &[u8]) -> Result<Option<Vec<u8>>, OnnxError>;

impl PartialEq for Edit {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Edit {}

impl Hash for Edit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            provider: "cpu".into(),
            threads: 1,
            edit: None,
        }
    }
}

/// A loaded model, shared by every [`Runner`] that asked for it.
pub struct SharedSession {
    session: Session,
    pub descriptor: Descriptor,
    weights: PathBuf,
    /// Of the weights, in hexadecimal.
    pub sha256: String,
    on_cpu: bool,
}

/// Users with equal keys share a session.
#[derive(PartialEq)]
struct Key {
    weights: PathBuf,
    /// A file that was replaced is loaded again.
    modified: Option<SystemTime>,
    /// One file of weights may be linked next to several descriptors, and descriptors may be
    /// edited.
    descriptor: Descriptor,
    options: Options,
}

/// A session that is loaded, or is being loaded while the lock is held.
type Slot = Arc<Mutex<Weak<SharedSession>>>;

/// A process has few sessions, so they are searched linearly.
type Cache = Vec<(Key, Slot)>;

/// The slot for `key`.
fn slot(key: Key) -> Slot {
    static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);
    let mut cache = CACHE.lock();
    cache.retain(|(_, slot)| {
        // Whoever holds the lock holds another reference, so this does not wait.
        let loaded = || slot.lock().strong_count() > 0;
        Arc::strong_count(slot) > 1 || loaded()
    });
    if let Some((_, slot)) = cache.iter().find(|(known, _)| *known == key) {
        return slot.clone();
    }
    let slot = Slot::default();
    cache.push((key, slot.clone()));
    slot
}

/// Loads `model`, or returns the session that is already loaded.
pub fn load(model: &Model, options: &Options) -> Result<Arc<SharedSession>, Error> {
    let slot = slot(Key {
        weights: model
            .weights
            .canonicalize()
            .unwrap_or_else(|_| model.weights.clone()),
        modified: std::fs::metadata(&model.weights)
            .and_then(|m| m.modified())
            .ok(),
        descriptor: model.descriptor.clone(),
        options: options.clone(),
    });
    // Held while loading, so that forty instances that start together load the model once.
    let mut known = slot.lock();
    if let Some(session) = known.upgrade() {
        return Ok(session);
    }
    let session = Arc::new(SharedSession::load(model, options)?);
    *known = Arc::downgrade(&session);
    Ok(session)
}

impl SharedSession {
    fn load(model: &Model, options: &Options) -> Result<Self, Error> {
        let descriptor = &model.descriptor;
        let environment = environment()?;
        let bytes = model.read_unchecked()?;
        // Checking takes as long as adapting, so they run in parallel.
        let (checked, adapted) = std::thread::scope(|scope| {
            let checked = scope.spawn(|| model.check_weights(&bytes));
            let adapted = onnx::adapt(&bytes, &descriptor.input.name, &descriptor.input.shape);
            (checked.join(), adapted)
        });
        let sha256 = checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let adapted = adapted.map_err(|e| Error::invalid(&model.weights, e))?;
        drop(bytes);
        let mut descriptor = descriptor.clone();
        let adapted = match descriptor.input.is_channels_last() {
            false => adapted,
            true => {
                let planar = descriptor.input.planar();
                let last = std::mem::replace(&mut descriptor.input, planar).name;
                let input = &descriptor.input;
                onnx::planar(&adapted, &last, &input.name, &input.shape)
                    .map_err(|e| Error::invalid(&model.weights, e))?
            }
        };
        let edited = match options.edit {
            Some(edit) => (edit.apply)(&descriptor, &adapted)
                .map_err(|e| Error::invalid(&model.weights, e))?,
            None => None,
        };
        let adapted = edited.unwrap_or(adapted);
        let failed = |e: &dyn std::fmt::Display| {
            Error::invalid(
                &model.weights,
                format!(
                    "ONNX Runtime refuses the model: {e}; is the file complete, and its descriptor right?"
                ),
            )
        };
        let mut builder = Session::builder(environment)
            .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::All)?))
            .and_then(|b| Ok(b.with_intra_threads(options.threads.max(1) as usize)?))
            .and_then(|b| Ok(b.with_inter_threads(1)?))
            // Idle worker threads that spin would take the cores from the decoder and other stages.
            .and_then(|b| Ok(b.with_intra_op_spinning(false)?))
            .map_err(|e| failed(&e))?;
        if options.provider != "cpu" {
            builder = with_provider(builder, &options.provider)?;
        }
        let session = builder
            .commit_from_memory(&adapted)
            .map_err(|e| failed(&e))?;
        let shared = Self {
            session,
            descriptor,
            weights: model.weights.clone(),
            sha256,
            on_cpu: options.provider == "cpu",
        };
        shared.check()?;
        Ok(shared)
    }

    /// Checks that all tensors are float32, since nothing here converts, and of bounded size.
    fn check(&self) -> Result<(), Error> {
        for outlet in self.session.inputs().iter().chain(self.session.outputs()) {
            match outlet.dtype() {
                ValueType::Tensor {
                    ty: TensorElementType::Float32,
                    shape,
                    ..
                } => {
                    // Unknown sizes are negative.
                    let shape: Vec<usize> = shape.iter().map(|d| (*d).max(1) as usize).collect();
                    self.check_size(outlet.name(), &shape)?;
                }
                other => {
                    return Err(self.unfit(format!(
                        "`{}` is {other}, only float32 tensors are supported",
                        outlet.name()
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_size(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        let numbers = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match numbers.is_some_and(|n| n <= MOST_NUMBERS) {
            true => Ok(()),
            false => Err(self.unfit(format!(
                "`{name}` has the shape {shape:?}; the limit is {MOST_NUMBERS} numbers"
            ))),
        }
    }

    /// The error for a model that does not do what its descriptor says.
    pub fn unfit(&self, cause: impl ToString) -> Error {
        let model = format!("`{}` ({})", self.descriptor.name, self.weights.display());
        Error::model(model, cause)
    }
}

/// One caller's tensors for one input shape, bound once and reused in every run.
pub struct Runner {
    shared: Arc<SharedSession>,
    binding: IoBinding,
    input: Tensor<f32>,
    outputs: Vec<(String, Tensor<f32>)>,
    shape: [usize; 4],
}

impl Runner {
    /// Binds tensors for an input of `shape` (batch, 3, height, width). Runs the model once, which
    /// yields the shapes of the outputs and warms it up.
    ///
    /// Fails for an input of more than [`MOST_INPUT_PIXELS`].
    pub fn new(shared: &Arc<SharedSession>, shape: [usize; 4]) -> Result<Self, Error> {
        let [_, _, height, width] = shape;
        if height.saturating_mul(width) > MOST_INPUT_PIXELS {
            return Err(Error::Settings(format!(
                "an input of {width}x{height} pixels is too large for model `{}`; the limit is \
                 {MOST_INPUT_PIXELS} pixels: set `inference-size`",
                shared.descriptor.name
            )));
        }
        let failed = |e: ort::Error| {
            shared.unfit(format!(
                "it does not run on an input of {shape:?}: {e}; is `input.shape` in its descriptor \
                 right?"
            ))
        };
        let allocator = Allocator::default();
        let mut input = Tensor::<f32>::new(&allocator, shape).map_err(failed)?;
        input.extract_tensor_mut().1.fill(0.0);
        let mut binding = shared.session.create_binding().map_err(failed)?;
        binding
            .bind_input(&shared.descriptor.input.name, &input)
            .map_err(failed)?;
        let cpu = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::CPUOutput,
        )
        .map_err(failed)?;
        for outlet in shared.session.outputs() {
            binding
                .bind_output_to_device(outlet.name(), &cpu)
                .map_err(failed)?;
        }
        let shapes = shared.output_shapes(&binding).map_err(failed)?;
        binding.clear_outputs();
        let mut outputs = Vec::new();
        for (outlet, shape) in shared.session.outputs().iter().zip(shapes) {
            shared.check_size(outlet.name(), &shape)?;
            let mut output = Tensor::<f32>::new(&allocator, shape).map_err(failed)?;
            binding
                .bind_output(outlet.name(), &mut output)
                .map_err(failed)?;
            outputs.push((outlet.name().to_owned(), output));
        }
        Ok(Self {
            shared: shared.clone(),
            binding,
            input,
            outputs,
            shape,
        })
    }

    pub fn session(&self) -> &Arc<SharedSession> {
        &self.shared
    }

    /// The shape of the input: batch, channels, height, width.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Whether the model has an output that the descriptor calls `role`, or that has this name.
    pub fn has_output(&self, role: &str) -> bool {
        let name = self.shared.descriptor.output(role);
        self.outputs.iter().any(|(n, _)| n == name)
    }

    /// The input tensor, row-major in the order of [`shape`](Self::shape).
    pub fn input(&mut self) -> &mut [f32] {
        self.input.extract_tensor_mut().1
    }

    /// Runs the model on the contents of [`input`](Self::input).
    ///
    /// Standardises each image of a model that wants it, so the input afterwards is not the one before.
    pub fn run(&mut self) -> Result<(), Error> {
        if self.shared.descriptor.input.normalization == Normalization::PerImage {
            let [_, channels, height, width] = self.shape;
            let image = channels * height * width;
            let images = self.input.extract_tensor_mut().1.chunks_exact_mut(image);
            images.for_each(model::standardise);
        }
        self.shared
            .run(&self.binding)
            .map_err(|e| self.shared.unfit(e))
    }

    /// The output that the descriptor calls `role`, or that has this name in the graph.
    pub fn output(&self, role: &str) -> Result<ArrayViewD<'_, f32>, Error> {
        let name = self.shared.descriptor.output(role);
        match self.outputs.iter().find(|(n, _)| n == name) {
            Some((_, tensor)) => Ok(tensor.extract_array()),
            None => {
                let found: Vec<_> = self.outputs.iter().map(|(n, _)| n.as_str()).collect();
                Err(self.shared.unfit(format!(
                    "decoder `{}` needs an output `{name}`, the model has {found:?}; name it under \
                     `outputs` in the descriptor, or choose another decoder",
                    self.shared.descriptor.decoder
                )))
            }
        }
    }

    /// The output `role`, row-major. Fails unless it has `shape`.
    pub fn output_of(&self, role: &str, shape: &[usize]) -> Result<&[f32], Error> {
        let found = self.output(role)?;
        if found.shape() != shape {
            return Err(self.shared.unfit(format!(
                "decoder `{}` needs output `{}` of shape {shape:?}, the model gives {:?}; choose \
                 another decoder in the descriptor",
                self.shared.descriptor.decoder,
                self.shared.descriptor.output(role),
                found.shape()
            )));
        }
        let name = self.shared.descriptor.output(role);
        Ok(self
            .outputs
            .iter()
            .find(|(n, _)| n == name)
            .map_or(&[][..], |(_, tensor)| tensor.extract_tensor().1))
    }

    /// The output of a model that has exactly one, row-major.
    pub fn only_output(&self) -> Result<&[f32], Error> {
        match self.outputs.as_slice() {
            [(_, tensor)] => Ok(tensor.extract_tensor().1),
            several => Err(self.shared.unfit(format!(
                "decoder `{}` needs a model with one output, this one has {}",
                self.shared.descriptor.decoder,
                several.len()
            ))),
        }
    }
}

impl SharedSession {
    /// Waits for one of the places for simultaneous inferences, no longer than `patience` if it is
    /// given.
    ///
    /// Returns `None` if there was none in time. A run without a place waits for one without limit.
    pub fn place(&self, asker: &Asker, patience: Option<Duration>) -> Option<Place> {
        match self.on_cpu {
            true => Place::on_cpu(asker, patience),
            false => Some(Place::free()),
        }
    }

    fn run(&self, binding: &IoBinding) -> ort::Result<()> {
        let _place = self.place(&Asker::other(), None);
        // SAFETY: session and binding are live and belong together. RunWithBinding may be called
        // from several threads on one session as long as each has its own binding, as its
        // documentation says. `ort` wraps it with `&mut Session`, which would make forty streams
        // wait for each other.
        unsafe {
            let status = (ort::api().RunWithBinding)(
                self.session.ptr().cast_mut(),
                std::ptr::null(),
                binding.ptr(),
            );
            ort::Error::result_from_status(status)
        }
    }

    /// Runs once with outputs that the runtime allocates, and returns their shapes.
    fn output_shapes(&self, binding: &IoBinding) -> ort::Result<Vec<Vec<usize>>> {
        self.run(binding)?;
        let allocator = Allocator::default();
        let mut values: *mut *mut ort::sys::OrtValue = std::ptr::null_mut();
        let mut count = 0;
        let mut shapes = Vec::new();
        // SAFETY: GetBoundOutputValues returns an array of `count` values, allocated with
        // `allocator`. Each value is released once below, and the array is freed once after that.
        unsafe {
            ort::Error::result_from_status((ort::api().GetBoundOutputValues)(
                binding.ptr(),
                allocator.ptr().cast_mut(),
                &mut values,
                &mut count,
            ))?;
            let mut outcome = Ok(());
            for i in 0..count {
                let value = *values.add(i);
                if outcome.is_ok() {
                    outcome = shape_of(value).map(|shape| shapes.push(shape));
                }
                (ort::api().ReleaseValue)(value);
            }
            if !values.is_null() {
                allocator.free(values);
            }
            outcome?;
        }
        Ok(shapes)
    }
}

/// The shape of a tensor.
///
/// # Safety
/// `value` must be a live tensor.
unsafe fn shape_of(value: *const ort::sys::OrtValue) -> ort::Result<Vec<usize>> {
    let api = ort::api();
    let mut info = std::ptr::null_mut();
    // SAFETY: `value` is live by contract. `info` is valid between its creation and its release,
    // and `dims` has the length that the runtime reported.
    unsafe {
        ort::Error::result_from_status((api.GetTensorTypeAndShape)(value, &mut info))?;
        let mut rank = 0;
        let mut outcome = ort::Error::result_from_status((api.GetDimensionsCount)(info, &mut rank));
        let mut dims = vec![0i64; rank];
        if outcome.is_ok() {
            outcome =
                ort::Error::result_from_status((api.GetDimensions)(info, dims.as_mut_ptr(), rank));
        }
        (api.ReleaseTensorTypeAndShapeInfo)(info);
        outcome?;
        Ok(dims.into_iter().map(|d| d.max(0) as usize).collect())
    }
}
