//! The seam to the disk: real files, or a simulated disk that loses what was not synced.
