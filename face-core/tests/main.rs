//! Properties that hold for any input, and tests with real models.

mod properties;
mod session;
