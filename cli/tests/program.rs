//! The program as its users meet it: the real binary, its output, its exit codes, and its end by signals.

#![allow(clippy::unwrap_used, reason = "tests")]

mod program {
    pub mod support;

    mod broker;
    mod cluster;
    mod crash;
    mod dump_log;
    mod help;
    mod refusals;
    mod resources;
    mod topology;
}
