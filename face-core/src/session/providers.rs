//! The execution providers of ONNX Runtime. Each is a cargo feature.

use ort::ep::ExecutionProviderDispatch;
use ort::session::builder::SessionBuilder;

use crate::error::Error;

macro_rules! providers {
    ($($name:literal => $kind:ident),* $(,)?) => {
        /// The names of all execution providers except `cpu`. Each is also the name of its cargo
        /// feature.
        pub const PROVIDERS: &[&str] = &[$($name),*];

        /// The [`PROVIDERS`] that are built in.
        pub fn built_in() -> Vec<&'static str> {
            let all = [$(($name, cfg!(feature = $name))),*];
            all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
        }

        fn provider(name: &str) -> Result<ExecutionProviderDispatch, Error> {
            match name {
                $(
                    #[cfg(feature = $name)]
                    $name => Ok(ort::ep::$kind::default().build().error_on_failure()),
                )*
                _ => Err(no_provider(name)),
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

/// The error for an execution provider that is not built in.
fn no_provider(name: &str) -> Error {
    let here: Vec<_> = std::iter::once("cpu").chain(built_in()).collect();
    let here = here.join(", ");
    Error::Settings(match PROVIDERS.contains(&name) {
        true => format!(
            "execution provider `{name}` is not built in (this build has {here}): build with the cargo \
             feature `{name}`, or use execution-provider=cpu"
        ),
        false => format!(
            "no execution provider `{name}`; the known ones are cpu, {}; this build has {here}",
            PROVIDERS.join(", ")
        ),
    })
}

/// Makes a session run on the provider `name`.
pub(super) fn with_provider(builder: SessionBuilder, name: &str) -> Result<SessionBuilder, Error> {
    let dispatch = provider(name)?;
    builder.with_execution_providers([dispatch]).map_err(|e| {
        let cause = e.to_string();
        Error::Runtime(format!(
            "execution provider `{name}` cannot be used: {}; use execution-provider=cpu, or point \
             ORT_DYLIB_PATH at an ONNX Runtime that was built with it",
            cause.trim_end_matches(['.', ' '])
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_is_not_built_in_names_its_feature() {
        for name in PROVIDERS {
            match (provider(name), built_in().contains(name)) {
                (Ok(_), true) => {}
                (Err(error), false) => {
                    let error = error.to_string();
                    let feature = format!("cargo feature `{name}`");
                    assert!(error.contains(&feature), "{error}");
                }
                (Ok(_), false) => panic!("{name} is not built in, yet works"),
                (Err(error), true) => panic!("{name} is built in, but fails: {error}"),
            }
        }
        let error = provider("nonsense").err().expect("none").to_string();
        assert!(error.contains("the known ones are cpu, acl"), "{error}");
    }
}
