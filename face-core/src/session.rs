//! ONNX Runtime: one environment a process, one session for all element instances that ask for
//! the same model and options, and a [`Runner`] an instance that keeps its tensors bound.

use std::cell::Cell;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use ndarray::ArrayViewD;
use ort::AsPointer;
use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, builder::GraphOptimizationLevel};
use ort::value::{Tensor, TensorElementType, ValueType};

use crate::elf;
use crate::error::Error;
use crate::model::{self, Descriptor, MOST_INPUT_PIXELS, Model};
use crate::onnx::{self, heads};
use crate::turns::{Asker, Gate, Turn};

/// ONNX Runtime's own messages.
static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "onnxruntime",
        gst::DebugColorFlags::empty(),
        Some("ONNX Runtime"),
    )
});

/// The file name that the set-up gives the runtime starts with this.
const LIBRARY: &str = "libonnxruntime.so";

/// The folder of the shared object (plugin or program) that this code is linked into.
fn module_folder() -> Option<PathBuf> {
    // SAFETY: an all-zero Dl_info is valid, dladdr fills it in or returns 0, and the name that it
    // points to belongs to the loaded module, which outlives this call as it contains this code.
    let name = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let code = module_folder as fn() -> Option<PathBuf> as *const libc::c_void;
        if libc::dladdr(code, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        std::ffi::CStr::from_ptr(info.dli_fname).to_owned()
    };
    let path = Path::new(name.to_str().ok()?).canonicalize().ok()?;
    Some(path.parent()?.to_owned())
}

/// Where the runtime's library is looked for after `ORT_DYLIB_PATH`: beside the plugin, where
/// `make install` puts it, and in the checkout. The system's own comes last.
fn library_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = module_folder().into_iter().collect();
    folders.push(model::data_home().join("lib"));
    folders.push(model::checkout().join("runtime"));
    folders
}

/// The library of the highest version in `folder`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(LIBRARY))
        })
        .collect();
    found.sort();
    found.pop()
}

fn create_environment() -> Result<Environment, Error> {
    let load = |path: &Path| {
        elf::check_whole(path)?;
        ort::init_from(path).map_err(|error| match &error {
            // What the loader says stands in the source only.
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
        let folders = library_folders();
        match folders.iter().find_map(|folder| library_in(folder)) {
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
                    "no usable ONNX Runtime: no {LIBRARY}* in {}, and the system's: {cause}; set \
                     ORT_DYLIB_PATH, or {}",
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

/// The process's environment; a failure is tried anew on the next call.
fn environment() -> Result<&'static Environment, Error> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    static CREATING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    // `ort` asserts on libraries that look like the runtime and are not; a panic must not leave here.
    let created = std::panic::catch_unwind(create_environment).unwrap_or_else(|_| {
        Err(Error::Runtime(format!(
            "the library found as ONNX Runtime is none, or too old; unset ORT_DYLIB_PATH and {}",
            model::REMEDY
        )))
    })?;
    Ok(ENVIRONMENT.get_or_init(|| created))
}

/// The most numbers of one input or output: the largest input has as many.
const MOST_NUMBERS: usize = 3 * MOST_INPUT_PIXELS;

/// What sessions can differ in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Options {
    /// `cpu`, or one of [`PROVIDERS`].
    pub provider: String,
    /// Threads inside one inference; 1 runs it on the calling thread.
    pub threads: u32,
    /// Whether outputs are computed together where the model's decoder can read that.
    pub merge_heads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            provider: "cpu".into(),
            threads: 1,
            merge_heads: true,
        }
    }
}

macro_rules! providers {
    ($($name:literal => $kind:ident),* $(,)?) => {
        /// The names of all execution providers but `cpu`.
        pub const PROVIDERS: &[&str] = &[$($name),*];

        fn provider(name: &str) -> Option<ExecutionProviderDispatch> {
            match name {
                $($name => Some(ep::$kind::default().build().error_on_failure()),)*
                _ => None,
            }
        }
    };
}

providers! {
    "acl" => ACL,
    "cann" => CANN,
    "cuda" => CUDA,
    "migraphx" => MIGraphX,
    "onednn" => OneDNN,
    "openvino" => OpenVINO,
    "qnn" => QNN,
    "rocm" => ROCm,
    "tensorrt" => TensorRT,
    "webgpu" => WebGPU,
    "xnnpack" => XNNPACK,
}

/// Inferences on the CPU: twice as many at a time as it has cores, so that none idles while the
/// system has paused a thread in here. More would be no faster, and each fills memory with
/// intermediate results: with many streams, most of what a stream would need.
static CPU: LazyLock<Gate> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Gate::new(2 * cores)
});

thread_local! {
    /// Whether this thread has a turn, and needs no other: waiting for a second one, threads could wait for
    /// each other.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// The right to run models on this thread, as long as it lives.
#[must_use]
pub struct Place {
    turn: Option<Turn<'static>>,
    /// It belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Place {
    fn new(turn: Option<Turn<'static>>) -> Self {
        Self {
            turn,
            _thread: std::marker::PhantomData,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.turn.is_some() {
            HAS_TURN.set(false);
        }
    }
}

/// From now on whatever leaves work out when it is late leaves all of it out (or no longer does), so that
/// pipelines that end are through with their frames at once.
pub fn leave_work_out(leave_out: bool) {
    CPU.close(leave_out);
}

/// A loaded model, shared by every [`Runner`] that asked for it.
pub struct SharedSession {
    session: Session,
    pub descriptor: Descriptor,
    weights: PathBuf,
    /// Of the weights' file, in hexadecimal.
    pub sha256: String,
    on_cpu: bool,
}

/// What two users of one session have in common.
#[derive(PartialEq)]
struct Key {
    weights: PathBuf,
    /// So that a file that was replaced is loaded anew.
    modified: Option<SystemTime>,
    /// One file of weights may be linked beside several descriptors, and these may be edited.
    descriptor: Descriptor,
    options: Options,
}

/// A session that is loaded, or that is loaded while the lock is held.
type Slot = Arc<Mutex<Weak<SharedSession>>>;

/// A process has few sessions: they are looked through one by one.
type Cache = Vec<(Key, Slot)>;

/// The place of what `key` stands for.
fn slot(key: Key) -> Slot {
    static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    cache.retain(|(_, slot)| {
        // Only who holds another reference can hold the lock.
        let loaded = || {
            slot.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .strong_count()
                > 0
        };
        Arc::strong_count(slot) > 1 || loaded()
    });
    if let Some((_, slot)) = cache.iter().find(|(known, _)| *known == key) {
        return slot.clone();
    }
    let slot = Slot::default();
    cache.push((key, slot.clone()));
    slot
}

/// Loads `model`, or hands out the session that is loaded already.
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
    // Held while loading: forty instances that start together load the model once.
    let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
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
        // Checking takes as long as adapting.
        let (checked, adapted) = std::thread::scope(|scope| {
            let checked = scope.spawn(|| model.check_weights(&bytes));
            let adapted = onnx::adapt(&bytes, &descriptor.input.name, &descriptor.input.shape);
            (checked.join(), adapted)
        });
        let sha256 = checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let adapted = adapted.map_err(|e| Error::invalid(&model.weights, e))?;
        drop(bytes);
        let heads = match options.merge_heads {
            true => heads::of_decoder(&descriptor.decoder),
            false => &[],
        };
        let name = |role: &str| descriptor.output(role).to_owned();
        let merged =
            heads::merge(&adapted, heads, name).map_err(|e| Error::invalid(&model.weights, e))?;
        let adapted = merged.unwrap_or(adapted);
        let failed = |e: &dyn std::fmt::Display| {
            Error::invalid(
                &model.weights,
                format!(
                    "ONNX Runtime refuses the model: {e}; is the file whole, and its descriptor right?"
                ),
            )
        };
        let mut builder = Session::builder(environment)
            .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::All)?))
            .and_then(|b| Ok(b.with_intra_threads(options.threads.max(1) as usize)?))
            .and_then(|b| Ok(b.with_inter_threads(1)?))
            // Idle worker threads that spin would take the cores from decoder and other stages.
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
            descriptor: descriptor.clone(),
            weights: model.weights.clone(),
            sha256,
            on_cpu: options.provider == "cpu",
        };
        shared.check()?;
        Ok(shared)
    }

    /// All tensors must be float32, as nothing here converts, and of bounded size.
    fn check(&self) -> Result<(), Error> {
        for outlet in self.session.inputs().iter().chain(self.session.outputs()) {
            match outlet.dtype() {
                ValueType::Tensor {
                    ty: TensorElementType::Float32,
                    shape,
                    ..
                } => {
                    // Sizes that are not known yet are below 0.
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
                "`{name}` has the shape {shape:?}; more than {MOST_NUMBERS} numbers are not taken"
            ))),
        }
    }

    /// The error for a model that does not do what its descriptor says.
    pub fn unfit(&self, cause: impl ToString) -> Error {
        let model = format!("`{}` ({})", self.descriptor.name, self.weights.display());
        Error::model(model, cause)
    }
}

type Builder = ort::session::builder::SessionBuilder;

fn with_provider(builder: Builder, name: &str) -> Result<Builder, Error> {
    let Some(dispatch) = provider(name) else {
        return Err(Error::Settings(format!(
            "no execution provider `{name}`; known are cpu, {}",
            PROVIDERS.join(", ")
        )));
    };
    builder.with_execution_providers([dispatch]).map_err(|e| {
        let cause = e.to_string();
        Error::Runtime(format!(
            "execution provider `{name}` cannot be used: {}; take execution-provider=cpu, or point \
             ORT_DYLIB_PATH at an ONNX Runtime that was built with it",
            cause.trim_end_matches(['.', ' '])
        ))
    })
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
    /// gives the shapes of the outputs and warms it up.
    ///
    /// Fails for an input of more than [`MOST_INPUT_PIXELS`].
    pub fn new(shared: &Arc<SharedSession>, shape: [usize; 4]) -> Result<Self, Error> {
        let [_, _, height, width] = shape;
        if height.saturating_mul(width) > MOST_INPUT_PIXELS {
            return Err(Error::Settings(format!(
                "an input of {width}x{height} pixels for model `{}`; the most that a model is given \
                 are {MOST_INPUT_PIXELS}: set `inference-size`",
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

    /// Batch, channels, height, width.
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

    /// Runs the model on what [`input`](Self::input) holds.
    pub fn run(&mut self) -> Result<(), Error> {
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

    /// The output `role`, row-major, which must have `shape`.
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

    /// The only output of a model that has one, row-major.
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
    /// A place for this thread, within `patience` if there is any; see [`Gate::turn`]. Whoever runs a model
    /// without one waits for one as long as it takes.
    pub fn place(&self, asker: &Asker, patience: Option<Duration>) -> Option<Place> {
        if !self.on_cpu || HAS_TURN.get() {
            return Some(Place::new(None));
        }
        let turn = CPU.turn(asker, patience)?;
        HAS_TURN.set(true);
        Some(Place::new(Some(turn)))
    }

    fn run(&self, binding: &IoBinding) -> ort::Result<()> {
        let _place = self.place(&Asker::other(), None);
        // SAFETY: session and binding are live and belong together, and RunWithBinding is documented
        // as safe to call from several threads on one session as long as each has its own binding.
        // `ort` wraps it with `&mut Session`, which would let forty streams wait for each other.
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
        // SAFETY: GetBoundOutputValues hands over an array of `count` values, allocated with
        // `allocator`; each value is released once below, and the array freed once after that.
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
    // SAFETY: `value` is live by contract; `info` is valid between its creation and its release,
    // and `dims` has the length that the runtime asked for.
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
