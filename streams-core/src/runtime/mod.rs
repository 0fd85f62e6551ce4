//! Runs tasks against a broker: stream threads, assignment, commit, internal topics, restoration, state directory.
