//! Tests of Pawl that need several processes.
