//! `millstream topology`: draw, diff.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use streams_core::topology::{self, TopologyDescription};

use crate::options::{DiffOptions, DrawOptions, PictureFormat};
use crate::report::{Failure, print};

/// More than any description, less than memory.
const TEXT_MAX_BYTES: u64 = 64 << 20;

/// Prints a picture.
pub fn draw(options: &DrawOptions) -> Result<(), Failure> {
    let description = read(&options.file)?;
    print(&match options.format {
        PictureFormat::Mermaid => description.to_mermaid(),
        PictureFormat::Dot => description.to_dot(),
        PictureFormat::Svg => description.to_svg(),
        PictureFormat::Html => description.to_html(),
    })
}

/// Prints what becomes of each store and internal topic; a failure if state would be lost.
pub fn diff(options: &DiffOptions) -> Result<(), Failure> {
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    let diff = topology::diff(&old, &new);
    print(&if options.json { diff.to_json() + "\n" } else { diff.to_string() })?;
    if !diff.loses_state() {
        return Ok(());
    }
    let lost = diff.changes.iter().filter(|change| change.loses_state()).count();
    Err(Failure::new(format!("{lost} of {} would lose what they keep", diff.changes.len()))
        .hint("stdout names them and what keeps each; or start from nothing under another application.id"))
}

/// The description in a file, or in what is piped in.
fn read(file: &Path) -> Result<TopologyDescription, Failure> {
    let name = file.display();
    let mut text = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().lock().take(TEXT_MAX_BYTES).read_to_end(&mut text),
        false => File::open(file).and_then(|opened| opened.take(TEXT_MAX_BYTES).read_to_end(&mut text)),
    };
    read.map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    String::from_utf8_lossy(&text).parse().map_err(|error| {
        Failure::new(format!("{name}: {error}")).hint("give it what println!(\"{}\", topology.describe()) prints")
    })
}
