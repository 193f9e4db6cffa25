//! What Pawl's daemons share: configuration, telemetry, admin server, problem+json, drain, TLS reload.
