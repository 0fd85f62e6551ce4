//! The program as its users meet it: the real binary, its output, its exit codes, and its end by signals.

#![allow(clippy::unwrap_used, reason = "tests")]

mod program {
    pub mod support;

    mod admin;
    mod broker;
    mod cluster;
    mod crash;
    mod dump_files;
    mod dump_log;
    mod groups;
    mod help;
    mod members;
    mod perf;
    mod records;
    mod refusals;
    mod resources;
    mod share_crash;
    mod topology;
}
