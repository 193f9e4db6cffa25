//! The webhook that puts the sidecar beside the application.
