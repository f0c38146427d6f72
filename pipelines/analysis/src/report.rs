//! Shows the results in a folder on one page for a browser.

mod company;
pub mod load;
pub mod media;
pub mod model;
pub mod page;
mod spans;
pub mod thumbnails;
