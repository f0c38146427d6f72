//! `facepipe live`: its configuration.

pub mod config;
mod secret;
