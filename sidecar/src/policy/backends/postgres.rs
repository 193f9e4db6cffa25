//! From the policy's `postgres` to the backend.

use std::sync::Arc;

use pawl_crds::conditions::reasons;
use pawl_kit::clock::Clock;
use pawl_lock::{Backend, Owner};

use super::files::Files;
use crate::{
    backend::postgres::{
        Credentials, CredentialsSource, Endpoint, Postgres, PostgresConfig, PostgresMode,
        SchemaName, TlsSource,
    },
    engine::{BackendConfig, OpenError},
};

/// Opens a Postgres in either mode.
pub(super) fn open(
    postgres: &pawl_crds::Postgres,
    config: &BackendConfig,
    files: &Files,
    identity: &Owner,
    clock: &Clock,
) -> Result<Arc<dyn Backend>, OpenError> {
    let pawl_crds::Postgres {
        url,
        mode,
        schema,
        credentials_secret_ref,
        tls,
    } = postgres;
    let invalid = |field: &str, error: &dyn std::error::Error| OpenError {
        reason: reasons::INVALID,
        message: format!("spec.backend.postgres.{field}: {error}"),
    };
    // The user of the address is the driver's default; the Secret's wins.
    let login = files.login(credentials_secret_ref.as_ref(), None)?;
    let credentials: CredentialsSource = Arc::new(move || {
        let login = login()?;
        Ok(Credentials {
            username: login.username,
            password: login.password.map(|password| password.expose().to_owned()),
        })
    });
    let tls = match tls {
        None => None,
        Some(tls) => {
            let configuration = files.tls(tls)?;
            let source: TlsSource = Arc::new(move || Ok((*configuration()?).clone()));
            Some(source)
        }
    };
    let now = clock.clone();
    Ok(Arc::new(Postgres::new(PostgresConfig {
        endpoint: Endpoint::try_new(url).map_err(|error| invalid("url", &error))?,
        mode: match mode {
            pawl_crds::PostgresMode::Advisory => PostgresMode::Advisory,
            pawl_crds::PostgresMode::Row => PostgresMode::Row,
        },
        schema: SchemaName::try_new(schema).map_err(|error| invalid("schema", &error))?,
        scope: config.scope.clone(),
        identity: identity.to_string(),
        ttl: config.ttl,
        credentials,
        tls,
        now: Arc::new(move || now.now()),
    })))
}
