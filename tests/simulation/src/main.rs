//! simulation
fn main() {}
