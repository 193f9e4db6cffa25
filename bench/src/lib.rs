//! Pawl measured against other lock clients in one run.
