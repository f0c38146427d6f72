//! `facepipe live`: its configuration.

#[path = "../../pipelines/src/live/config.rs"]
pub mod config;
#[path = "../../pipelines/src/live/secret.rs"]
mod secret;
