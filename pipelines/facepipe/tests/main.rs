//! `facepipe` as its users run it, with one module per command.

mod analyze;
mod annotate;
mod augment;
mod bench;
mod cli;
mod cluster;
mod common;
mod containers;
mod enroll;
mod evaluate;
mod expression;
mod forget;
mod gallery;
mod html;
mod kinds;
mod live;
mod live_observe;
mod live_outputs;
mod live_strangers;
mod main_persons;
mod name;
mod pages;
mod persons;
mod report;
mod run;
mod search;
