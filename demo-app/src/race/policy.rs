//! The policies that the race's sidecars go by, written the way a user would write them.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::backend::Backend;

/// The policy of all acts.
pub const ACCOUNTS: &str = "accounts";
/// The same with `order: Any`, for the act about order.
pub const ACCOUNTS_ANY: &str = "accounts-any";

/// Writes the policies into `policies` and what they log in with into `secrets`. `namespace` is this run's, so that
/// it never meets the locks of another.
pub fn write(
    backend: &Backend,
    namespace: &str,
    policies: &Path,
    secrets: &Path,
) -> io::Result<()> {
    fs::create_dir_all(policies)?;
    fs::create_dir_all(secrets)?;
    let first = if backend.has_fifo() { "Fifo" } else { "Any" };
    for (name, order) in [(ACCOUNTS, first), (ACCOUNTS_ANY, "Any")] {
        let text = serde_yaml::to_string(&document(backend, namespace, name, order))
            .map_err(io::Error::other)?;
        fs::write(policies.join(format!("{name}.yaml")), text)?;
        if let Some(credentials) = &backend.credentials {
            let dir = secrets.join(name);
            fs::create_dir_all(&dir)?;
            write_secret(&dir.join("password"), &credentials.password)?;
            if let Some(username) = &credentials.username {
                write_secret(&dir.join("username"), username)?;
            }
        }
    }
    Ok(())
}

fn document(backend: &Backend, namespace: &str, name: &str, order: &str) -> Value {
    json!({
        "apiVersion": "pawl.dev/v1alpha1",
        "kind": "LockPolicy",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "purpose": "Efficiency",
            "backend": { (backend.kind): backend.spec },
            // No lease here asks for more, and a Redlock node counts only once it has run for longer than maxTtl.
            "lease": { "ttl": "10s", "maxTtl": "10s", "maxHold": "5m" },
            "acquire": { "maxWait": "2m", "order": order },
        },
    })
}

/// Readable by nobody else, from the moment it is there.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn policies_and_secrets_lie_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (policies, secrets) = (dir.path().join("policies"), dir.path().join("secrets"));
        let backend = Backend::parse("redis://ann:hidden@localhost").unwrap();
        write(&backend, "race-1", &policies, &secrets).unwrap();

        let text = fs::read_to_string(policies.join("accounts.yaml")).unwrap();
        assert!(!text.contains("hidden"));
        let policy: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(policy["spec"]["acquire"]["order"], "Fifo");
        assert_eq!(
            policy["spec"]["backend"]["redis"]["url"],
            "redis://localhost:6379/0"
        );
        assert_eq!(
            policy["metadata"],
            json!({"name": "accounts", "namespace": "race-1"})
        );

        let password = secrets.join("accounts-any/password");
        assert_eq!(fs::read_to_string(&password).unwrap(), "hidden");
        assert_eq!(
            fs::metadata(&password).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn redlock_is_never_asked_for_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::parse("redlock:a:1,b:1,c:1").unwrap();
        write(&backend, "race-1", dir.path(), &dir.path().join("secrets")).unwrap();
        for name in [ACCOUNTS, ACCOUNTS_ANY] {
            let text = fs::read_to_string(dir.path().join(format!("{name}.yaml"))).unwrap();
            let policy: Value = serde_yaml::from_str(&text).unwrap();
            assert_eq!(policy["spec"]["acquire"]["order"], "Any");
        }
    }
}
