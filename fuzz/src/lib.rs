//! Parsers that belong to a program and not to a library.
#![allow(dead_code)]

pub mod evaluate;
