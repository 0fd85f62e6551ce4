//! Options of `millstream topology`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `millstream topology`.
#[derive(Subcommand)]
pub enum TopologyCommand {
    /// A picture of a topology, on stdout
    #[command(after_help = "Examples:\n\
        \x20 millstream topology draw topology.txt --format html > topology.html\n\
        \x20 millstream topology draw - --format dot < topology.txt | dot -Tpdf > topology.pdf")]
    Draw(DrawOptions),
    /// What becomes of each store and internal topic when NEW takes the place of OLD
    #[command(
        long_about = "Says of each store and internal topic what becomes of it when NEW takes the place of OLD:\n\
            same, renamed (its place is there under another name), new, orphaned (its place is gone), or misread\n\
            (its name is given to something else). Exit code 1 if anything that OLD keeps would be lost or misread,\n\
            with what to write so that it is not.",
        after_help = "Examples:\n\
        \x20 millstream topology diff running.txt next.txt\n\
        \x20 millstream topology diff running.txt next.txt --json | jq '.changes[] | select(.fate != \"same\")'"
    )]
    Diff(DiffOptions),
}

/// `millstream topology diff`.
#[derive(Args)]
pub struct DiffOptions {
    /// describe() of the topology that runs
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// describe() of the one to take its place
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `millstream topology draw`.
#[derive(Args)]
pub struct DrawOptions {
    /// The text of describe(); - reads stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to make of it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: PictureFormat,
}

/// Formats of pictures.
#[derive(Clone, Copy, ValueEnum)]
pub enum PictureFormat {
    /// A flowchart for Markdown pages
    Mermaid,
    /// A digraph for Graphviz
    Dot,
    /// A picture, complete in itself
    Svg,
    /// A page with the picture, a legend and the text
    Html,
}
