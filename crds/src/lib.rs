//! Pawl's Kubernetes API: LockPolicy, and the label and annotation names.
