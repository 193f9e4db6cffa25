//! Who may do what.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::PolicyRule,
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use super::KubernetesServer;

/// A rule of RBAC.
pub type Rule = PolicyRule;

/// What an account is allowed.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// In its own namespace.
    pub rules: Vec<Rule>,
    /// In the whole cluster.
    pub cluster_rules: Vec<Rule>,
}

/// Somebody who is known to the server.
#[derive(Clone)]
pub struct Account {
    namespace: String,
    name: String,
    token: String,
}

impl Access {
    /// These verbs on these resources (`leases`, `pods/status`) of a group, in the account's namespace.
    #[must_use]
    pub fn allow(mut self, group: &str, resources: &[&str], verbs: &[&str]) -> Self {
        self.rules.push(rule(group, resources, verbs));
        self
    }

    /// The same in the whole cluster.
    #[must_use]
    pub fn allow_everywhere(mut self, group: &str, resources: &[&str], verbs: &[&str]) -> Self {
        self.cluster_rules.push(rule(group, resources, verbs));
        self
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Rule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Rule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..Rule::default()
    }
}

impl Account {
    pub(super) fn administrator() -> Self {
        Self {
            namespace: "default".to_owned(),
            name: "admin".to_owned(),
            token: format!("{:032x}", rand::random::<u128>()),
        }
    }

    /// Its line in the file of known tokens.
    pub(super) fn line(&self) -> String {
        format!(
            "{},{},{},system:masters\n",
            self.token, self.name, self.name
        )
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bearer token, good for an hour.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl KubernetesServer {
    /// Makes a service account (and its namespace, if it is not there) with exactly this access, or changes the access
    /// of one that is there, and takes a new token for it.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn account(&self, namespace: &str, name: &str, access: &Access) -> Account {
        self.namespace(namespace).await;
        self.apply_values(&account_objects(namespace, name, access))
            .await;
        self.token(namespace, name).await
    }

    /// Takes a new token for a service account that is there.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn token(&self, namespace: &str, name: &str) -> Account {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .expect("a token is given");
        Account {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            token: answer.status.expect("it was answered").token,
        }
    }
}

/// The account, its roles and what binds them.
fn account_objects(namespace: &str, name: &str, access: &Access) -> Vec<Value> {
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    let rbac = "rbac.authorization.k8s.io";
    let object = |kind: &str, name: &str| {
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
        })
    };
    let with = |mut object: Value, fields: &[(&str, Value)]| {
        for (field, value) in fields {
            object[*field] = value.clone();
        }
        object
    };
    let wide = format!("{namespace}:{name}");
    let role = |kind: &str, name: &str| json!({"apiGroup": rbac, "kind": kind, "name": name});
    let is_wide = |mut object: Value| {
        object["metadata"] = json!({"name": wide});
        object
    };
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        }),
        with(object("Role", name), &[("rules", json!(access.rules))]),
        with(
            object("RoleBinding", name),
            &[
                ("roleRef", role("Role", name)),
                ("subjects", subject.clone()),
            ],
        ),
        is_wide(with(
            object("ClusterRole", &wide),
            &[("rules", json!(access.cluster_rules))],
        )),
        is_wide(with(
            object("ClusterRoleBinding", &wide),
            &[
                ("roleRef", role("ClusterRole", &wide)),
                ("subjects", subject),
            ],
        )),
    ]
}
