//! From the policy's `redis` to the backend.

use std::sync::Arc;

use pawl_crds::{Eviction, RedisTopology, SecretRef, conditions::reasons};
use pawl_lock::{
    Backend,
    backend::{Category, Outcome},
};

use super::{files::Files, not_built};
use crate::{
    backend::redis::{
        Redis, RedisConfig,
        connection::{Credentials, CredentialsSource, TlsSource},
        errors::Failure,
    },
    engine::{BackendConfig, OpenError},
};

/// Opens one Redis.
pub(super) fn open(
    redis: &pawl_crds::Redis,
    config: &BackendConfig,
    files: &Files,
) -> Result<Arc<dyn Backend>, OpenError> {
    let pawl_crds::Redis {
        url: _,
        sentinel: _,
        cluster: _,
        credentials_secret_ref,
        tls,
        wait_replicas,
        eviction,
    } = redis;
    let url = match redis.topology() {
        Some(RedisTopology::Standalone(url)) => url,
        Some(RedisTopology::Sentinel(_)) => return Err(not_built("redis behind Sentinel")),
        Some(RedisTopology::Cluster(_)) => return Err(not_built("a Redis Cluster")),
        None => return Err(invalid("must have exactly one of url, sentinel, cluster")),
    };
    let (url, user) = without_user(url);
    let tls = if redis.uses_tls() {
        Some(tls_source(files, &tls.clone().unwrap_or_default())?)
    } else {
        None
    };
    let redis = RedisConfig {
        credentials: credentials(files, credentials_secret_ref.as_ref(), user)?,
        tls,
        wait_replicas: *wait_replicas,
        allow_eviction: *eviction == Eviction::Allow,
        ..RedisConfig::new(url)
    };
    let backend = Redis::new(redis, config.scope.clone(), rand::random());
    backend
        .map(|backend| Arc::new(backend) as _)
        .map_err(|error| invalid(&error.to_string()))
}

/// The login that the policy names.
pub(super) fn credentials(
    files: &Files,
    named: Option<&SecretRef>,
    user: Option<String>,
) -> Result<CredentialsSource, OpenError> {
    let login = files.login(named, user)?;
    Ok(CredentialsSource::new(move || {
        let login = login().map_err(|error| failure(Category::Config, &error))?;
        Ok(Credentials {
            username: login.username,
            password: login.password,
        })
    }))
}

/// TLS for connections to Redis.
pub(super) fn tls_source(files: &Files, tls: &pawl_crds::Tls) -> Result<TlsSource, OpenError> {
    let configuration = files.tls(tls)?;
    Ok(TlsSource::new(move || {
        configuration().map_err(|error| failure(Category::Tls, &error))
    }))
}

/// What keeps a connection from being made, before the server was asked for anything.
fn failure(category: Category, error: &dyn std::error::Error) -> Failure {
    Failure::new(category, Outcome::NotApplied, error.to_string())
}

fn invalid(message: &str) -> OpenError {
    OpenError {
        reason: reasons::INVALID,
        message: format!("spec.backend.redis: {message}"),
    }
}

/// The URL without the user name that may stand in it, and that name. The policy's rules leave no password in it.
fn without_user(url: &str) -> (String, Option<String>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.split_once('@')?;
        Some((format!("{scheme}://{host}"), user.to_owned()))
    });
    match parts {
        Some((url, user)) => (url, Some(user).filter(|user| !user.is_empty())),
        None => (url.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_moves_from_the_url_to_the_login() {
        for (url, bare, user) in [
            ("redis://redis:6379/0", "redis://redis:6379/0", None),
            ("rediss://me@redis/1", "rediss://redis/1", Some("me")),
            ("redis://@redis", "redis://redis", None),
        ] {
            let user = user.map(str::to_owned);
            assert_eq!(without_user(url), (bare.to_owned(), user), "{url}");
        }
    }
}
